"""What a person sees: the Streamlit app, which speaks HTTP to the API."""
