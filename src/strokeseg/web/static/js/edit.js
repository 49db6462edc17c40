// A correction of the outline by a person. It is made on a copy; the network's result stays unchanged, also on the server.

import { call, gzip } from "./api.js";

/** The label of painted pixels; the server determines which lesion they belong to. */
const PAINTED = 255;

export class Edit {
  /** @param {import("./volume.js").Volume} volume with labels @param {Function} onChange is called after each change */
  constructor(volume, onChange) {
    this.volume = volume;
    this.onChange = onChange;
    this.before = volume.labels;
    volume.setLabels(volume.labels.slice());
    this.done = [];
    this.undone = [];
    this.accepted = new Set();
    this.erasing = false;
    this.diameter = volume.scaled ? 5 : 12;
    this.stroke = null;
    this.last = null;
  }

  get dirty() {
    return this.done.length > 0 || this.accepted.size > 0;
  }

  /** Lesions that were rejected and not restored. */
  get rejected() {
    return new Set(this.done.map((step) => step.lesion).filter(Boolean));
  }

  /** The callbacks for the pointer on a plane; see gestures.js. */
  paintHandlers(plane) {
    return {
      down: (point) => {
        this.stroke = { at: [], was: [], slice: plane.view.index };
        this.last = point;
        this.#line(point, point);
      },
      move: (point) => {
        this.#line(this.last, point);
        this.last = point;
      },
      up: (cancelled) => {
        const stroke = this.stroke;
        this.stroke = null;
        if (!stroke?.at.length) return;
        this.#record({ ...stroke, now: this.erasing ? 0 : PAINTED });
        if (cancelled) this.undo();
      },
    };
  }

  /** Paint along a line, closely enough that a fast stroke has no gaps. */
  #line(from, to) {
    const { width, height } = this.volume.pixel;
    const length = Math.hypot((to.column - from.column) * width, (to.row - from.row) * height);
    const steps = Math.max(1, Math.ceil(length / Math.max(this.diameter / 4, Math.min(width, height))));
    for (let step = 0; step <= steps; step++) {
      const share = step / steps;
      this.#stamp(from.column + (to.column - from.column) * share, from.row + (to.row - from.row) * share);
    }
    this.volume.touch();
  }

  /** Paint the pixels whose centres are within the brush; its size is in the volume's unit of length. */
  #stamp(column, row) {
    const { rows, columns } = this.volume.meta;
    const { width, height } = this.volume.pixel;
    const radius = this.diameter / 2;
    const offset = this.stroke.slice * this.volume.area;
    const [down, across] = [radius / height, radius / width];
    for (let r = Math.max(0, Math.floor(row - down)); r <= Math.min(rows - 1, row + down); r++) {
      for (let c = Math.max(0, Math.floor(column - across)); c <= Math.min(columns - 1, column + across); c++) {
        const distance = Math.hypot((c + 0.5 - column) * width, (r + 0.5 - row) * height);
        const hit = c === Math.floor(column) && r === Math.floor(row);
        if (distance <= radius || hit) this.#set(offset + r * columns + c);
      }
    }
  }

  #set(at) {
    const { labels } = this.volume;
    if (labels[at] > 0 === !this.erasing) return;
    this.stroke.at.push(at);
    this.stroke.was.push(labels[at]);
    labels[at] = this.erasing ? 0 : PAINTED;
  }

  #record(step) {
    this.done.push(step);
    this.undone = [];
    this.volume.touch();
    this.onChange();
  }

  /** Remove a whole lesion; undo restores it. */
  reject(id) {
    this.accepted.delete(id);
    const { labels } = this.volume;
    const at = [];
    for (let index = labels.indexOf(id); index >= 0; index = labels.indexOf(id, index + 1)) at.push(index);
    for (const index of at) labels[index] = 0;
    this.#record({ at, was: at.map(() => id), now: 0, lesion: id });
  }

  /** Mark a lesion as correct; a second call removes the mark. */
  accept(id) {
    if (!this.accepted.delete(id)) this.accepted.add(id);
    this.onChange();
  }

  undo() {
    const step = this.done.pop();
    if (!step) return;
    step.at.forEach((index, number) => {
      this.volume.labels[index] = step.was[number];
    });
    this.undone.push(step);
    this.volume.touch();
    this.onChange();
  }

  redo() {
    const step = this.undone.pop();
    if (!step) return;
    for (const index of step.at) this.volume.labels[index] = step.now;
    this.done.push(step);
    this.volume.touch();
    this.onChange();
  }

  /** Restore the outline as it was before. */
  discard() {
    this.volume.setLabels(this.before);
  }

  /** Describe the accepted and rejected lesions, for the note of the version. */
  describeDecisions() {
    const decisions = [["Accepted", this.accepted], ["Rejected", this.rejected]];
    return decisions.filter(([, ids]) => ids.size).map(([word, ids]) => `${word}: lesion ${[...ids].sort((a, b) => a - b).join(", ")}.`).join(" ");
  }

  /** Save as a new version; the server updates measurements and files. @returns {Promise<Object>} the study */
  async save(id, { author, note, accepted }) {
    const mask = this.volume.labels.map((label) => (label ? 1 : 0));
    const query = new URLSearchParams({ author, note: [this.describeDecisions(), note].filter(Boolean).join(" "), accepted });
    const more = { "Content-Type": "application/octet-stream" };
    const path = `studies/${encodeURIComponent(id)}/versions?${query}`;
    return (await call(path, { method: "POST", body: await gzip(mask), more })).json();
  }
}
