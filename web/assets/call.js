// Posts what the page asks for in a hidden element, once. It has no inline script, so that the
// Content-Security-Policy needs no 'unsafe-inline'.
(() => {
  for (const call of document.querySelectorAll("[data-quillgate-call]:not([data-sent])")) {
    call.dataset.sent = "";
    fetch(call.dataset.quillgateCall, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Requested-With": "quillgate" },
      body: JSON.stringify(call.dataset.ticket ? { ticket: call.dataset.ticket } : {}),
    });
  }
})();
