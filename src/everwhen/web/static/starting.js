// It stands in the page itself: what a network that changes, or a server that begins, has cut off
// is loaded again. The address has all that is seen, so nothing is lost.
addEventListener("error", ({ target }) => {
  if (target.rel === "stylesheet" && !target.onerror) {
    const tries = Number(target.dataset.tries ?? 0);
    const again = target.cloneNode();
    again.dataset.tries = tries + 1;
    if (tries < 5) setTimeout(() => target.replaceWith(again), 250 * 2 ** tries);
  }
  const starting = document.querySelector(".starting");
  if (!starting || !(target instanceof HTMLScriptElement)) return;
  const tries = Number(sessionStorage.getItem("everwhen.tries") ?? 0);
  if (tries < 5) {
    sessionStorage.setItem("everwhen.tries", tries + 1);
    setTimeout(() => location.reload(), 250 * 2 ** tries);
  } else {
    sessionStorage.removeItem("everwhen.tries");
    starting.textContent = "The page's files can't be loaded. See that the server runs, then load the page again.";
  }
}, true);
