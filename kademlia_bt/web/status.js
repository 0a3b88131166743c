// Fetches the inner part of the page once a second while it is looked at. The server escapes all text in it.
"use strict";
const live = document.getElementById("live");
const fresh = document.getElementById("fresh");

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/live", { cache: "no-store" });
      if (!answer.ok) throw new Error(`answer ${answer.status}`);
      live.innerHTML = await answer.text();
      fresh.textContent = "live";
    } catch (error) {
      fresh.textContent = "no answer: shown is what was last known";
    }
  }
  setTimeout(refresh, 1000);
}
setTimeout(refresh, 1000);
