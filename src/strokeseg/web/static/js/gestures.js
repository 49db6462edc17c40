// Input on a plane: mouse, pen, touch and keyboard. The tool decides what a single finger or the left button does.

import { announce } from "./dom.js";
import { WINDOWS } from "./windows.js";

const STEP_PX = 14; // drag distance for one slice
const KEYS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 };

/**
 * Attach the input handlers of a plane.
 * @param {HTMLElement} surface that receives the input
 * @param {import("./plane.js").Plane} plane
 * @param {{tool: string, paint: Object|null, hover: Function, jump: Function}} controls `paint` has down, move, up, each
 *   with a point of the picture; `jump(1)` goes to the next lesion
 */
export function attach(surface, plane, controls) {
  const pointers = new Map();
  let drag = null;
  const at = (event) => {
    const box = plane.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  surface.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button, input, a")) return;
    surface.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    surface.focus({ preventScroll: true });
    if (pointers.size === 2) {
      drag?.end?.(true);
      drag = pinch(plane, pointers);
    } else if (pointers.size === 1) drag = startDrag(event, at(event), plane, controls);
    event.preventDefault();
  });
  surface.addEventListener("pointermove", (event) => {
    const point = at(event);
    controls.hover(point);
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, point);
    drag?.move(point);
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    drag?.end?.(event.type === "pointercancel");
    drag = null;
  };
  surface.addEventListener("pointerup", release);
  surface.addEventListener("pointercancel", release);
  surface.addEventListener("pointerleave", () => controls.hover(null));
  surface.addEventListener("contextmenu", (event) => event.preventDefault());
  surface.addEventListener("wheel", (event) => wheel(event, at(event), plane), { passive: false });
  surface.addEventListener("keydown", (event) => key(event, plane, controls));
}

let wheelSum = 0;

/** One notch is one slice; small steps of a touchpad are summed. With ctrl, or a pinch on a touchpad: zoom. */
function wheel(event, point, plane) {
  event.preventDefault();
  if (event.ctrlKey || event.metaKey) return plane.zoomAt(Math.exp(-event.deltaY / 300), point);
  const notch = event.deltaMode === 0 ? 50 : 1;
  wheelSum = Math.sign(wheelSum) === Math.sign(event.deltaY) ? wheelSum + event.deltaY : event.deltaY;
  if (Math.abs(wheelSum) < notch) return undefined;
  plane.set({ index: plane.view.index - Math.sign(wheelSum) });
  wheelSum = 0;
  return undefined;
}

function startDrag(event, start, plane, controls) {
  const first = { ...plane.view };
  const middle = event.button === 1 || event.shiftKey;
  const tool = middle ? "pan" : event.button === 2 ? "zoom" : controls.tool;
  const offset = (point) => ({ x: point.x - start.x, y: point.y - start.y });
  if (tool === "paint" && controls.paint) return painting(start, plane, controls.paint);
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
  return { move: (point) => moves[tool]?.(offset(point)) };
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
  plane.rulers = [...plane.rulers.filter((other) => other.slice !== ruler.slice), ruler];
  const discard = () => {
    plane.rulers = plane.rulers.filter((other) => other !== ruler);
    plane.redraw();
  };
  return {
    move: (point) => {
      ruler.to = plane.toImage(point);
      plane.redraw();
      plane.onView(plane.view);
    },
    end: (cancelled) => (cancelled || ruler.to === from ? discard() : announce(plane.lengthText(ruler))),
  };
}

function pinch(plane, pointers) {
  const state = () => {
    const [one, other] = [...pointers.values()];
    return { distance: Math.hypot(one.x - other.x, one.y - other.y), x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 };
  };
  let last = state();
  return {
    move: () => {
      if (pointers.size < 2) return;
      const now = state();
      plane.set({ x: plane.view.x + now.x - last.x, y: plane.view.y + now.y - last.y });
      plane.zoomAt(now.distance / Math.max(1, last.distance), now);
      last = now;
    },
  };
}

/** Keys only work while the plane has the focus: single letters must have no effect elsewhere. */
function key(event, plane, controls) {
  if (event.target !== event.currentTarget || event.altKey || event.ctrlKey || event.metaKey) return;
  const { view } = plane;
  const middle = { x: plane.size.width / 2, y: plane.size.height / 2 };
  const actions = {
    Home: () => plane.set({ index: 0 }),
    End: () => plane.set({ index: plane.volume.count - 1 }),
    o: () => plane.set({ outline: !view.outline }),
    "+": () => plane.zoomAt(1.25, middle),
    "=": () => plane.zoomAt(1.25, middle),
    "-": () => plane.zoomAt(0.8, middle),
    0: () => plane.set({ zoom: 1, x: 0, y: 0 }),
    n: () => controls.jump(1),
    p: () => controls.jump(-1),
  };
  WINDOWS.forEach(({ centre, width }, number) => {
    actions[number + 1] = () => plane.set({ centre, width });
  });
  if (event.key in KEYS) plane.set({ index: view.index + KEYS[event.key] });
  else if (actions[event.key]) actions[event.key]();
  else return;
  event.preventDefault();
}
