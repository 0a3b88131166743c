// Fetches the inner part of the page once a second while it is looked at. The server escapes all text in it.
"use strict";
const live = document.getElementById("live");
const fresh = document.getElementById("fresh");

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/live", { cache: "no-store" });
      if (!answer.ok) throw new Error(`answer ${answer.status}`);
      const text = await answer.text();
      const scrolled = [...live.querySelectorAll(".wide")].map((part) => part.scrollLeft);
      live.innerHTML = text;
      live.querySelectorAll(".wide").forEach((part, index) => { part.scrollLeft = scrolled[index] ?? 0; });
      fresh.textContent = "live";
    } catch (error) {
      fresh.textContent = "no answer: shown is what was last known";
    }
  }
  setTimeout(refresh, 1000);
}
setTimeout(refresh, 1000);
