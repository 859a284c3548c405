// Posts the prompt when the page goes: what was typed last has not been sent anywhere yet.
// It says whose: by now the browser's cookie may be of another login.
(() => {
  if (window.quillgateDraft) return;
  window.quillgateDraft = true;
  // A browser cuts a paste at this length. What is longer than the server takes in one message would
  // be sent, and break the connection, again and again.
  addEventListener("focusin", ({ target }) => {
    if (target.matches("textarea")) target.maxLength = 100_000;
  });
  addEventListener("pagehide", () => {
    const prompt = document.querySelector(".st-key-ask textarea")?.value;
    const login = document.querySelector("[data-quillgate-login]")?.dataset.quillgateLogin;
    if (prompt === undefined) return;
    fetch("/session/draft", {
      method: "POST",
      keepalive: true, // the page that sends it is gone before the answer
      headers: { "Content-Type": "application/json", "X-Requested-With": "quillgate" },
      body: JSON.stringify({ login, prompt }),
    });
  });
})();
