// A study's slices and outline, as the scanner made them: int16 values, loaded from the middle outwards.

import { atVersion, getBytes, getJson, gunzip, pause } from "./api.js";

const AT_ONCE = 4;

export class Volume {
  /** @param {string} id of a study; `signal` ends loading */
  constructor(id, signal) {
    this.path = `studies/${encodeURIComponent(id)}`;
    this.signal = signal;
    this.slices = [];
    this.loading = new Set();
    /** uint8, slice after slice: the lesion's id, 0 where there is none; null until there is a result */
    this.labels = null;
    /** Grows with every change of the labels, so that what was drawn from them is drawn anew. */
    this.edition = 0;
    this.listeners = new Set();
  }

  onChange(listener) {
    this.listeners.add(listener);
  }

  changed(what) {
    for (const listener of this.listeners) listener(what);
  }

  get count() {
    return this.meta.slices;
  }

  get area() {
    return this.meta.rows * this.meta.columns;
  }

  /** Whether lengths are known. */
  get scaled() {
    return Boolean(this.meta.pixel_spacing_mm);
  }

  /** Width and height of a pixel: mm where they are known, else squares of 1. */
  get pixel() {
    const [row, column] = this.meta.pixel_spacing_mm ?? [1, 1];
    return { width: column, height: row };
  }

  async open() {
    this.meta = await getJson(`${this.path}/slices`, { signal: this.signal });
    this.slices = new Array(this.count).fill(null);
    this.wanted = Math.floor(this.count / 2);
    return this;
  }

  /** Load all slices, always the nearest to the one that is looked at first. */
  async load() {
    await Promise.all(Array.from({ length: AT_ONCE }, () => this.#worker()));
  }

  async #worker() {
    for (let index = this.#next(); index >= 0; index = this.#next()) {
      this.loading.add(index);
      try {
        const data = await gunzip(await getBytes(`${this.path}/slices/${index}`, { signal: this.signal }));
        this.slices[index] = new Int16Array(data);
        this.changed("slice");
      } catch (error) {
        if (error.name === "AbortError" || (error.status >= 400 && error.status < 500)) return;
        await pause(1000, this.signal).catch(() => {});
        if (this.signal.aborted) return;
      } finally {
        this.loading.delete(index);
      }
    }
  }

  #next() {
    let best = -1;
    for (let index = 0; index < this.count; index++) {
      if (this.slices[index] || this.loading.has(index)) continue;
      if (best < 0 || Math.abs(index - this.wanted) < Math.abs(best - this.wanted)) best = index;
    }
    return best;
  }

  want(index) {
    this.wanted = index;
  }

  async loadLabels(version) {
    const data = await getBytes(`${this.path}/mask${atVersion(version)}`, { signal: this.signal });
    this.setLabels(new Uint8Array(await gunzip(data)));
  }

  setLabels(labels) {
    this.labels = labels;
    this.touch();
  }

  /** Say that labels were changed in place. */
  touch() {
    this.edition++;
    this.changed("labels");
  }

  labelsOf(index) {
    return this.labels?.subarray(index * this.area, (index + 1) * this.area) ?? null;
  }

  /** @returns the value under a pixel, or null outside of the picture or before it is loaded */
  valueAt(index, column, row) {
    const { rows, columns } = this.meta;
    if (!this.slices[index] || column < 0 || row < 0 || column >= columns || row >= rows) return null;
    return this.slices[index][Math.floor(row) * columns + Math.floor(column)];
  }

  /** Where a lesion is largest. @returns {{slice: number, column: number, row: number} | null} */
  lesionPlace(id) {
    if (!this.labels) return null;
    const { columns } = this.meta;
    let best = null;
    for (let slice = 0; slice < this.count; slice++) {
      const plane = this.labelsOf(slice);
      let count = 0;
      let across = 0;
      let down = 0;
      for (let at = plane.indexOf(id); at >= 0; at = plane.indexOf(id, at + 1)) {
        count++;
        across += at % columns;
        down += Math.floor(at / columns);
      }
      if (count && (!best || count > best.count)) best = { slice, count, column: across / count, row: down / count };
    }
    return best;
  }
}
