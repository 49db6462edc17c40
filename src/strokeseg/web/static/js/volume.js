// A study's acquired slices (int16) and its labels, loaded from the middle outwards.

import { atVersion, getBytes, getJson, gunzip, pause } from "./api.js";

const PARALLEL = 4;

export class Volume {
  /** @param {string} id of a study; aborting `signal` ends loading */
  constructor(id, signal) {
    this.path = `studies/${encodeURIComponent(id)}`;
    this.signal = signal;
    this.slices = [];
    this.loading = new Set();
    /** uint8, slice after slice: the lesion's id, 0 for none; null until there is a result */
    this.labels = null;
    /** Incremented with every change of the labels, so that drawings of them are updated. */
    this.edition = 0;
    this.listeners = new Set();
  }

  onChange(listener) {
    this.listeners.add(listener);
  }

  notify(what) {
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

  /** Width and height of a pixel: mm if known, otherwise 1. */
  get pixel() {
    const [row, column] = this.meta.pixel_spacing_mm ?? [1, 1];
    return { width: column, height: row };
  }

  async open() {
    this.meta = await getJson(`${this.path}/slices`, { signal: this.signal });
    this.slices = new Array(this.count).fill(null);
    this.current = Math.floor(this.count / 2);
    return this;
  }

  /** Load all slices, starting with those nearest to the displayed one. */
  async load() {
    await Promise.all(Array.from({ length: PARALLEL }, () => this.#worker()));
  }

  async #worker() {
    for (let index = this.#next(); index >= 0; index = this.#next()) {
      this.loading.add(index);
      try {
        const data = await gunzip(await getBytes(`${this.path}/slices/${index}`, { signal: this.signal }));
        this.slices[index] = new Int16Array(data);
        this.notify("slice");
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
      if (best < 0 || Math.abs(index - this.current) < Math.abs(best - this.current)) best = index;
    }
    return best;
  }

  setCurrent(index) {
    this.current = index;
  }

  async loadLabels(version) {
    const data = await getBytes(`${this.path}/mask${atVersion(version)}`, { signal: this.signal });
    this.setLabels(new Uint8Array(await gunzip(data)));
  }

  setLabels(labels) {
    this.labels = labels;
    this.touch();
  }

  /** Notify the listeners that labels were changed in place. */
  touch() {
    this.edition++;
    this.notify("labels");
  }

  labelsOf(index) {
    return this.labels?.subarray(index * this.area, (index + 1) * this.area) ?? null;
  }

  /** @returns the value of a pixel, or null outside the slice or before it is loaded */
  valueAt(index, column, row) {
    const { rows, columns } = this.meta;
    if (!this.slices[index] || column < 0 || row < 0 || column >= columns || row >= rows) return null;
    return this.slices[index][Math.floor(row) * columns + Math.floor(column)];
  }

  /** Find the slice where a lesion is largest, and its centre there. @returns {{slice: number, column: number, row: number} | null} */
  findLargestSlice(id) {
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
