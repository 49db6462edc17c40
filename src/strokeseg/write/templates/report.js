"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const toggle = find("outline-toggle");
  const show = (on) => {
    document.body.classList.toggle("no-outline", !on);
    if (toggle) toggle.checked = on;
    const button = find("viewer-outline");
    if (button) button.setAttribute("aria-pressed", String(on));
  };
  const flip = () => show(document.body.classList.contains("no-outline"));
  if (toggle) {
    toggle.addEventListener("change", () => show(toggle.checked));
    find("viewer-outline").addEventListener("click", flip);
    show(toggle.checked);
  }

  const viewer = find("viewer");
  const slices = [...document.querySelectorAll(".slice")];
  let at = 0;
  const open = (index) => {
    at = Math.min(Math.max(index, 0), slices.length - 1);
    find("viewer-picture").replaceChildren(slices[at].querySelector(".picture").cloneNode(true));
    find("viewer-caption").textContent = slices[at].querySelector(".caption").textContent;
    find("viewer-back").disabled = at === 0;
    find("viewer-next").disabled = at === slices.length - 1;
    if (!viewer.open) viewer.showModal();
  };
  slices.forEach((slice, index) => slice.addEventListener("click", () => open(index)));
  find("viewer-back").addEventListener("click", () => open(at - 1));
  find("viewer-next").addEventListener("click", () => open(at + 1));
  find("viewer-close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => slices[at].focus());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (toggle && event.key.toLowerCase() === "o") flip();
    if (!viewer.open) return;
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (step) { event.preventDefault(); open(at + step); }
  });
})();
