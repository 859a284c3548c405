"""Who may call? Keys, principals, users and their audit; no flask, no torch, no streamlit."""
