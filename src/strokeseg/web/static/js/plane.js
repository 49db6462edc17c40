// One acquired plane on a canvas: grey levels, fill and outline of the lesions, rulers. Coordinates are (column, row).

import { paintGrey } from "./windows.js";

const FILL = [226, 62, 48];
const OUTLINE = "#ffd02e";
const RULER = "#7fd6ff";
const ZOOM = [0.5, 20];

export class Plane {
  /** @param {HTMLCanvasElement} canvas @param {import("./volume.js").Volume} volume @param {{centre, width}} first */
  constructor(canvas, volume, first) {
    this.canvas = canvas;
    this.volume = volume;
    const { rows, columns } = volume.meta;
    this.grey = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
    this.fill = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
    this.greyData = new ImageData(columns, rows);
    this.view = { index: volume.current, ...first, zoom: 1, x: 0, y: 0, opacity: 0.3, outline: true };
    this.rulers = [];
    this.onView = () => {};
    this.frame = 0;
    this.size = { width: 1, height: 1, ratio: 1 };
    volume.onChange(() => this.redraw());
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(canvas);
  }

  set(change) {
    const view = { ...this.view, ...change };
    view.index = Math.max(0, Math.min(this.volume.count - 1, Math.round(view.index)));
    view.width = Math.max(1, Math.round(view.width));
    view.centre = Math.round(view.centre);
    view.zoom = Math.max(ZOOM[0], Math.min(ZOOM[1], view.zoom));
    this.view = view;
    this.volume.setCurrent(view.index);
    this.redraw();
    this.onView(view);
  }

  /** Zoom by a factor around a point of the screen. */
  zoomAt(factor, point) {
    const { zoom, x, y } = this.view;
    const next = Math.max(ZOOM[0], Math.min(ZOOM[1], zoom * factor));
    const [dx, dy] = [point.x - this.size.width / 2 - x, point.y - this.size.height / 2 - y];
    this.set({ zoom: next, x: x + dx * (1 - next / zoom), y: y + dy * (1 - next / zoom) });
  }

  redraw() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** Size of a column and a row in CSS pixels. */
  get scale() {
    const { width, height } = this.volume.pixel;
    const { rows, columns } = this.volume.meta;
    const fit = Math.min(this.size.width / (columns * width), this.size.height / (rows * height)) * this.view.zoom;
    return { across: fit * width, down: fit * height };
  }

  /** Map (column, row) to CSS pixels, with the face at the top and the patient's left on the right. */
  get matrix() {
    const { across, down } = this.scale;
    const { rows, columns, upright } = this.volume.meta;
    const left = this.size.width / 2 + this.view.x - (columns * across) / 2;
    const top = this.size.height / 2 + this.view.y - (rows * down) / 2;
    const [flipColumns, flipRows] = [upright?.flip_columns, upright?.flip_rows];
    return {
      a: flipColumns ? -across : across,
      d: flipRows ? -down : down,
      e: flipColumns ? left + columns * across : left,
      f: flipRows ? top + rows * down : top,
    };
  }

  /** @param {{x, y}} point CSS pixels from the canvas's corner */
  toImage({ x, y }) {
    const { a, d, e, f } = this.matrix;
    return { column: (x - e) / a, row: (y - f) / d };
  }

  toScreen({ column, row }) {
    const { a, d, e, f } = this.matrix;
    return { x: e + column * a, y: f + row * d };
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (!width || !height) return;
    this.size = { width, height, ratio };
    const pixels = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== pixels[0] || this.canvas.height !== pixels[1]) [this.canvas.width, this.canvas.height] = pixels;
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    const isDrawn = this.#drawGrey(context);
    this.#drawLabels(context);
    this.#drawRulers(context);
    this.canvas.dataset.shown = isDrawn ? String(this.view.index) : "";
  }

  #drawImage(context, image) {
    const { a, d, e, f } = this.matrix;
    context.save();
    context.transform(a, 0, 0, d, e, f);
    context.drawImage(image, 0, 0);
    context.restore();
  }

  #drawGrey(context) {
    const values = this.volume.slices[this.view.index];
    if (!values) return false;
    const key = `${this.view.index} ${this.view.centre} ${this.view.width}`;
    if (this.greyKey !== key) {
      paintGrey(values, this.view, this.greyData.data);
      this.grey.getContext("2d").putImageData(this.greyData, 0, 0);
      this.greyKey = key;
    }
    context.imageSmoothingEnabled = this.scale.across < 4;
    context.imageSmoothingQuality = "high";
    this.#drawImage(context, this.grey);
    return true;
  }

  #drawLabels(context) {
    const labels = this.volume.labelsOf(this.view.index);
    if (!labels || !this.volume.slices[this.view.index]) return;
    const key = `${this.view.index} ${this.volume.edition}`;
    if (this.labelKey !== key) {
      this.#prepareLabels(labels);
      this.labelKey = key;
    }
    context.imageSmoothingEnabled = false;
    context.globalAlpha = this.view.opacity;
    this.#drawImage(context, this.fill);
    context.globalAlpha = 1;
    if (!this.view.outline) return;
    const { a, d, e, f } = this.matrix;
    const outline = new Path2D();
    outline.addPath(this.edges, new DOMMatrix([a, 0, 0, d, e, f]));
    context.strokeStyle = OUTLINE;
    context.lineWidth = 1.25;
    context.stroke(outline);
  }

  #prepareLabels(labels) {
    const { rows, columns } = this.volume.meta;
    const data = new ImageData(columns, rows);
    for (let at = 0; at < labels.length; at++) if (labels[at]) data.data.set([...FILL, 255], at * 4);
    this.fill.getContext("2d").putImageData(data, 0, 0);
    this.edges = traceEdges(labels, rows, columns);
  }

  #drawRulers(context) {
    context.font = "600 13px system-ui, sans-serif";
    for (const ruler of this.rulers) {
      if (ruler.slice !== this.view.index) continue;
      const [from, to] = [this.toScreen(ruler.from), this.toScreen(ruler.to)];
      for (const [style, width] of [["rgba(0, 0, 0, .7)", 4], [RULER, 1.5]]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo(from.x, from.y);
        context.lineTo(to.x, to.y);
        context.stroke();
      }
      context.lineWidth = 3;
      context.strokeStyle = "rgba(0, 0, 0, .8)";
      context.fillStyle = RULER;
      const text = this.lengthText(ruler);
      context.strokeText(text, to.x + 8, to.y + 4);
      context.fillText(text, to.x + 8, to.y + 4);
    }
  }

  /** The length of a ruler: mm, or pixels if the spacing is not known. */
  lengthText({ from, to }) {
    const { width, height } = this.volume.pixel;
    const length = Math.hypot((to.column - from.column) * width, (to.row - from.row) * height);
    return this.volume.scaled ? `${length.toFixed(1)} mm` : `${length.toFixed(0)} px`;
  }
}

/** Trace the edges between labelled and other pixels; runs along a row or a column are one line each. */
export function traceEdges(labels, rows, columns) {
  const path = new Path2D();
  const inside = (row, column) => row >= 0 && column >= 0 && row < rows && column < columns && labels[row * columns + column] > 0;
  const runs = (count, length, differs, draw) => {
    for (let line = 0; line <= count; line++) {
      let start = -1;
      for (let at = 0; at <= length; at++) {
        const edge = at < length && differs(line, at);
        if (edge && start < 0) start = at;
        if (!edge && start >= 0) {
          draw(line, start, at);
          start = -1;
        }
      }
    }
  };
  runs(rows, columns, (row, column) => inside(row - 1, column) !== inside(row, column), (row, from, to) => {
    path.moveTo(from, row);
    path.lineTo(to, row);
  });
  runs(columns, rows, (column, row) => inside(row, column - 1) !== inside(row, column), (column, from, to) => {
    path.moveTo(column, from);
    path.lineTo(column, to);
  });
  return path;
}
