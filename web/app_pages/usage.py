"""Usage: what is left of each limit, what was written on each day, and with which key."""

import streamlit as st

from web import browser_session
from web.api_client import ApiError
from web.key_facts import limit_bars
from web.sentences import plain, sentence
from web.services import installed
from web.usage_days import as_csv, key_rows, month_query, usage_days

PATH = "/v1/usage"

services = installed()
session, account = browser_session.require(services)
view = services.account_views.of(account.username)

st.title("Usage")
if view.error is not None:
    st.error(sentence(view.error), icon=":material/error:")
    st.stop()

st.subheader("What is left")
st.caption("Of your own key's limits. Days and months are those of UTC.")
for bar in limit_bars(view.document):
    st.progress(bar.left, text=f"{plain(bar.name)} · {bar.said}")

st.subheader("Characters a day")
try:
    found = usage_days(services.user_api.get(account.username, PATH, {"group_by": "day"}))
    month = services.user_api.get(account.username, PATH, month_query(found))
except ApiError as exc:
    st.error(sentence(exc), icon=":material/error:")
    st.stop()
if found is None or not found.total_requests + found.total_refused:
    st.info("Nothing was written in the last 30 days.", icon=":material/edit_off:")
    st.stop()

for column, (label, value) in zip(
    st.columns(3),
    (
        ("Characters", found.total_chars),
        ("Generations", found.total_requests),
        ("Refused", found.total_refused),
    ),
    strict=True,
):
    column.metric(label, f"{value:,}", border=True)
st.bar_chart({"Day": found.days, "Characters": found.chars}, x="Day", y="Characters", height=260)
st.caption(f"Everything that was used in {plain(account.tenant)} in the last 30 days.")

st.subheader("This month by key")
rows = key_rows(month)
if rows:
    st.dataframe(rows, hide_index=True, width="stretch")
else:
    st.info("Nothing was used this month yet.")
st.download_button(
    "Days as CSV",
    as_csv(found),
    f"usage-{found.days[-1].isoformat()}.csv",
    "text/csv",
    icon=":material/download:",
    on_click="ignore",
)
