"use strict";
/* The slice viewer: one slice at a time, in any window. Each level of the 8-bit images stands for a value in HU. */
(() => {
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("stack-data").textContent);
  const count = data.pngs.length;
  const box = find("stack"), section = find("slices-section"), canvas = find("stack-canvas"), slider = find("stack-slider");
  const picture = find("stack-picture"), windows = [...document.querySelectorAll("[data-window]")];
  const context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [data.width, data.height];
  picture.style.setProperty("--aspect", data.aspect);
  box.hidden = false;
  find("stack-fallback").hidden = true;

  const levels = new Array(count); // promises of each slice's levels
  const decode = async (index) => {
    const bytes = Uint8Array.from(atob(data.pngs[index]), (letter) => letter.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
    const sheet = Object.assign(document.createElement("canvas"), { width: data.width, height: data.height });
    const copy = sheet.getContext("2d", { willReadFrequently: true });
    copy.drawImage(image, 0, 0);
    image.close();
    const pixels = copy.getImageData(0, 0, data.width, data.height).data;
    return Uint8Array.from({ length: pixels.length / 4 }, (_, i) => pixels[4 * i]);
  };
  const levelsOf = (index) => (levels[index] ??= decode(index));

  let at = data.first, [centre, width] = [0, 1], table = new Uint8ClampedArray(256);
  const target = context.createImageData(data.width, data.height);
  const paint = (slice) => {
    const pixels = new Uint32Array(target.data.buffer);
    const grey = Uint32Array.from(table, (value) => 0xff000000 | (value * 0x10101));
    for (let i = 0; i < pixels.length; i++) pixels[i] = grey[slice[i]];
    context.putImageData(target, 0, 0);
    canvas.dataset.shown = `${at} ${centre}/${width}`;
  };
  const show = async (index) => {
    at = Math.min(Math.max(index, 0), count - 1);
    slider.value = at;
    slider.setAttribute("aria-valuetext", data.captions[at]);
    canvas.setAttribute("aria-label", data.captions[at]);
    find("stack-at").textContent = data.captions[at];
    find("stack-outline").setAttribute("d", data.paths[at]);
    const requested = at, slice = await levelsOf(at);
    if (requested === at) paint(slice); // otherwise the reader has moved on
    for (const next of [requested + 1, requested - 1]) if (next >= 0 && next < count) levelsOf(next);
  };
  const applyWindow = (button) => {
    [centre, width] = button.dataset.window.split(",").map(Number);
    table = Uint8ClampedArray.from(data.hu, (hu) => ((hu - centre) / width + 0.5) * 255);
    for (const other of windows) other.setAttribute("aria-pressed", String(other === button));
    show(at);
  };
  applyWindow(windows[0]);

  const ticks = find("stack-ticks");
  for (const index of data.positive) {
    const tick = document.createElement("i");
    tick.style.left = `${(index / Math.max(count - 1, 1)) * 100}%`;
    ticks.append(tick);
  }

  const toggle = find("outline-toggle");
  const outline = (on) => {
    document.body.classList.toggle("no-outline", !on);
    toggle.checked = on;
  };
  if (toggle) {
    toggle.addEventListener("change", () => outline(toggle.checked));
    outline(toggle.checked);
  }
  windows.forEach((button) => button.addEventListener("click", () => applyWindow(button)));
  slider.addEventListener("input", () => show(Number(slider.value)));
  document.querySelectorAll(".slice").forEach((slice) => slice.addEventListener("click", () => {
    show(Number(slice.dataset.index));
    box.scrollIntoView({ block: "nearest", behavior: "instant" });
    slider.focus({ preventScroll: true });
  }));

  let scrolled = 0;
  find("stack-box").addEventListener("wheel", (event) => {
    if (event.ctrlKey) return; // the browser's own zoom
    const step = event.deltaMode ? event.deltaY * 40 : event.deltaY;
    if ((step < 0 && at === count - 1) || (step > 0 && at === 0)) { scrolled = 0; return; } // at the end the page scrolls on
    event.preventDefault();
    scrolled += step;
    if (Math.abs(scrolled) < 30) return; // a touchpad gives many small steps
    show(at - Math.sign(scrolled));
    scrolled = 0;
  }, { passive: false });

  let from = null;
  picture.addEventListener("pointerdown", (event) => {
    from = { x: event.clientX, at };
    picture.setPointerCapture(event.pointerId);
    slider.focus({ preventScroll: true });
    event.preventDefault();
  });
  picture.addEventListener("pointermove", (event) => {
    if (!from) return;
    const stride = Math.max(6, picture.clientWidth / Math.max(count, 20));
    const next = from.at + Math.round((event.clientX - from.x) / stride);
    if (next !== at) show(next);
  });
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => { from = null; });

  // Only while the focus is in this section: otherwise single letters would override those of a screen reader.
  section.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (toggle && event.key.toLowerCase() === "o") outline(!toggle.checked);
    if (windows.length > 1 && windows[Number(event.key) - 1]) applyWindow(windows[Number(event.key) - 1]);
  });
})();
