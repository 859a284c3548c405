// Puts the cursor into the first field of a form that is all there is on the page, once it is there.
// Not where a keyboard would come up and cover half of what there is to read.
(() => {
  if (!matchMedia("(pointer: fine)").matches) return;
  const until = performance.now() + 5000;
  const look = () => {
    const field = document.querySelector("[data-testid=stForm] input");
    if (field && document.activeElement === document.body) field.focus();
    else if (!field && performance.now() < until) requestAnimationFrame(look);
  };
  look();
})();
