// Hands on a plane: mouse, pen, fingers and keys. What a single finger or the left button does is the tool's matter.

import { announce } from "./dom.js";
import { WINDOWS } from "./windows.js";

const STEP_PX = 14; // of a dragging finger for one slice
const KEYS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 };

/**
 * Let a plane be moved.
 * @param {HTMLElement} surface that is touched
 * @param {import("./plane.js").Plane} plane
 * @param {{tool: string, paint: Object|null, hover: Function, jump: Function}} hands `paint` has down, move, up, each
 *   with a point of the picture; `jump(1)` goes to the next lesion
 */
export function attach(surface, plane, hands) {
  const held = new Map();
  let drag = null;
  const at = (event) => {
    const box = plane.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  surface.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button, input, a")) return;
    surface.setPointerCapture(event.pointerId);
    held.set(event.pointerId, at(event));
    surface.focus({ preventScroll: true });
    if (held.size === 2) {
      drag?.end?.(true);
      drag = pinch(plane, held);
    } else if (held.size === 1) drag = begin(event, at(event), plane, hands);
    event.preventDefault();
  });
  surface.addEventListener("pointermove", (event) => {
    const point = at(event);
    hands.hover(point);
    if (!held.has(event.pointerId)) return;
    held.set(event.pointerId, point);
    drag?.move(point);
  });
  const release = (event) => {
    if (!held.delete(event.pointerId)) return;
    drag?.end?.(event.type === "pointercancel");
    drag = null;
  };
  surface.addEventListener("pointerup", release);
  surface.addEventListener("pointercancel", release);
  surface.addEventListener("pointerleave", () => hands.hover(null));
  surface.addEventListener("contextmenu", (event) => event.preventDefault());
  surface.addEventListener("wheel", (event) => wheel(event, at(event), plane), { passive: false });
  surface.addEventListener("keydown", (event) => key(event, plane, hands));
}

let turned = 0;

/** A wheel's notch is a slice; a touchpad's many small steps are summed up. With ctrl, or a pinch on a touchpad: zoom. */
function wheel(event, point, plane) {
  event.preventDefault();
  if (event.ctrlKey || event.metaKey) return plane.zoomAt(Math.exp(-event.deltaY / 300), point);
  const notch = event.deltaMode === 0 ? 50 : 1;
  turned = Math.sign(turned) === Math.sign(event.deltaY) ? turned + event.deltaY : event.deltaY;
  if (Math.abs(turned) < notch) return undefined;
  plane.set({ index: plane.view.index - Math.sign(turned) });
  turned = 0;
  return undefined;
}

function begin(event, start, plane, hands) {
  const first = { ...plane.view };
  const middle = event.button === 1 || event.shiftKey;
  const tool = middle ? "pan" : event.button === 2 ? "zoom" : hands.tool;
  const moved = (point) => ({ x: point.x - start.x, y: point.y - start.y });
  if (tool === "paint" && hands.paint) return painting(start, plane, hands.paint);
  if (tool === "ruler") return measuring(start, plane);
  const moves = {
    pan: ({ x, y }) => plane.set({ x: first.x + x, y: first.y + y }),
    zoom: ({ y }) => plane.zoomAt((first.zoom * Math.exp(-y / 200)) / plane.view.zoom, start),
    scroll: ({ y }) => plane.set({ index: first.index - Math.round(y / STEP_PX) }),
    window: ({ x, y }) => {
      const speed = Math.max(0.25, first.width / 300);
      plane.set({ width: first.width + x * speed, centre: first.centre + y * speed });
    },
  };
  return { move: (point) => moves[tool]?.(moved(point)) };
}

function painting(start, plane, paint) {
  paint.down(plane.toImage(start));
  return {
    move: (point) => paint.move(plane.toImage(point)),
    end: (cancelled) => paint.up(cancelled),
  };
}

function measuring(start, plane) {
  const from = plane.toImage(start);
  const ruler = { slice: plane.view.index, from, to: from };
  plane.rulers = [...plane.rulers.filter((known) => known.slice !== ruler.slice), ruler];
  const drop = () => {
    plane.rulers = plane.rulers.filter((known) => known !== ruler);
    plane.redraw();
  };
  return {
    move: (point) => {
      ruler.to = plane.toImage(point);
      plane.redraw();
      plane.onView(plane.view);
    },
    end: (cancelled) => (cancelled || ruler.to === from ? drop() : announce(plane.lengthText(ruler))),
  };
}

function pinch(plane, held) {
  const state = () => {
    const [one, other] = [...held.values()];
    return { apart: Math.hypot(one.x - other.x, one.y - other.y), x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 };
  };
  let last = state();
  return {
    move: () => {
      if (held.size < 2) return;
      const now = state();
      plane.set({ x: plane.view.x + now.x - last.x, y: plane.view.y + now.y - last.y });
      plane.zoomAt(now.apart / Math.max(1, last.apart), now);
      last = now;
    },
  };
}

/** Keys work while the plane has the focus, and only then: a single letter must not surprise elsewhere. */
function key(event, plane, hands) {
  if (event.target !== event.currentTarget || event.altKey || event.ctrlKey || event.metaKey) return;
  const { view } = plane;
  const middle = { x: plane.size.width / 2, y: plane.size.height / 2 };
  const does = {
    Home: () => plane.set({ index: 0 }),
    End: () => plane.set({ index: plane.volume.count - 1 }),
    o: () => plane.set({ outline: !view.outline }),
    "+": () => plane.zoomAt(1.25, middle),
    "=": () => plane.zoomAt(1.25, middle),
    "-": () => plane.zoomAt(0.8, middle),
    0: () => plane.set({ zoom: 1, x: 0, y: 0 }),
    n: () => hands.jump(1),
    p: () => hands.jump(-1),
  };
  WINDOWS.forEach(({ centre, width }, number) => {
    does[number + 1] = () => plane.set({ centre, width });
  });
  if (event.key in KEYS) plane.set({ index: view.index + KEYS[event.key] });
  else if (does[event.key]) does[event.key]();
  else return;
  event.preventDefault();
}
