"""The pages: scripts that Streamlit runs from top to bottom; what they decide lives in `web`."""
