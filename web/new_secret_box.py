"""The box above every page that shows new keys and passwords until they were put away."""

from collections.abc import Sequence

import streamlit as st

from web.new_secrets import NewSecret, NewSecrets


def draw_new_secrets(held: Sequence[NewSecret], new_secrets: NewSecrets) -> None:
    """Draw what is to be copied, or nothing in its place; the style keeps it in sight."""
    with st.container(key="new-secrets"):
        if not held:
            return
        for new in reversed(held):  # the newest is in sight however many there are
            st.warning(
                f"{new.told} Copy it now: it is shown this once.", icon=":material/content_copy:"
            )
            st.code(new.secret, language=None, wrap_lines=True)
        # Its name is that of what was last drawn: a click on it puts away none that came meanwhile.
        name = f"put away to {id(held[-1])}"
        if st.button("Done", key=name, help="Put it away: nobody can see it again."):
            for new in held:
                new_secrets.put_away(new)
            st.rerun()
