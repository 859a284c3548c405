"""How Streamlit is set, and why; given to it in code, so that the working directory matters not."""

from __future__ import annotations

from types import MappingProxyType

OPTIONS = MappingProxyType(
    {
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,  # in Streamlit's words: foreign origins are refused
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,  # remote control
        "server.maxUploadSize": 1,  # MB; nothing is uploaded
        "server.maxMessageSize": 10,  # MB
        "server.disconnectedSessionTTL": 120,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.showSidebarNavigation": True,
        "browser.gatherUsageStats": False,
        "logger.hideWelcomeMessage": True,
        # Two palettes, so that the page follows the system's scheme. Ink and paper, one accent;
        # contrasts of text are at least 4.5 to 1 (WCAG 2.2, 1.4.3).
        "theme.baseRadius": "0.6rem",
        "theme.buttonRadius": "0.6rem",
        "theme.baseFontSize": 16,
        "theme.codeFontSize": "0.9rem",
        "theme.paddingTop": "3.5rem",
        "theme.light.chartCategoricalColors": ["#4338ca"],
        "theme.dark.chartCategoricalColors": ["#8f87f0"],
        "theme.light.primaryColor": "#4338ca",
        "theme.light.backgroundColor": "#fcfbf8",
        "theme.light.secondaryBackgroundColor": "#f2efe8",
        "theme.light.textColor": "#0f131c",  # captions are drawn at 60 % of it
        "theme.light.borderColor": "#d9d4c8",
        "theme.light.codeBackgroundColor": "#ffffff",
        "theme.light.codeTextColor": "#0f131c",
        "theme.light.sidebar.backgroundColor": "#f2efe8",
        "theme.light.sidebar.secondaryBackgroundColor": "#fcfbf8",
        "theme.dark.primaryColor": "#6d63e8",
        "theme.dark.backgroundColor": "#14161d",
        "theme.dark.secondaryBackgroundColor": "#1f232e",
        "theme.dark.textColor": "#e8e6e1",
        "theme.dark.borderColor": "#3a4050",
        "theme.dark.codeBackgroundColor": "#1a1d26",
        "theme.dark.codeTextColor": "#e8e6e1",
        "theme.dark.sidebar.backgroundColor": "#1a1d26",
        "theme.dark.sidebar.secondaryBackgroundColor": "#262b38",
    }
)
