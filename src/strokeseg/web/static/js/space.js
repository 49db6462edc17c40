// The 3D view: three planes through the head, and its surfaces. Drawn by NiiVue, which is loaded only when needed.

import { atVersion, getBytes, getJson, gunzip } from "./api.js";
import { el, fill } from "./dom.js";
import { readSurfaces } from "./glb.js";
import { lesionCentres, setNominalScale } from "./nifti.js";

const BRAIN = [225, 228, 235, 255];
const LESION = [214, 40, 36, 255];
const CHOSEN = [255, 190, 30, 255];
const GLASS = 0.5;
const WINDOW_DELAY_MS = 150;
const OPTIONS = { backColor: [0, 0, 0, 1], dragAndDropEnabled: false, logLevel: "error", loadingText: "", isRadiologicalConvention: true,
  crosshairColor: [1, 0.82, 0.18, 0.9], fontColor: [0.72, 0.76, 0.8, 1], isColorbar: false, showLegend: false };

/** How this browser supports WebGL 2: "no", "slowly" (in software) or "yes". */
export function webGLSupport() {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) return "no";
  const names = gl.getExtension("WEBGL_debug_renderer_info");
  const renderer = String(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software|basic render/i.test(renderer) ? "slowly" : "yes";
}

export class Space {
  /** @param {string} id of the study @param {boolean} scaled whether lengths are known @param {AbortSignal} signal */
  constructor(id, scaled, signal) {
    this.path = `studies/${encodeURIComponent(id)}`;
    this.scaled = scaled;
    this.signal = signal;
    this.note = el("p", { class: "space-note", role: "status" }, "Loading the head …");
    this.planesCanvas = el("canvas", { class: "planes", tabindex: 0, "aria-label": "Axial, coronal and sagittal plane. Arrow keys, Page up and Page down move the crosshair." });
    this.headCanvas = el("canvas", { class: "head", tabindex: 0, "aria-label": "The head in 3D. Drag or use the arrow keys to rotate it." });
    this.element = el("div", { class: "space", "aria-label": "Planes and 3D", role: "group" },
      el("div", { class: "planes-place" }, this.planesCanvas), el("div", { class: "head-place" }, this.headCanvas), this.note);
    // The library has its own keyboard shortcuts; no key must reach it.
    this.element.addEventListener("keydown", (event) => this.#key(event), { capture: true });
    this.element.addEventListener("keyup", (event) => event.stopPropagation(), { capture: true });
    this.centres = new Map();
    this.meshes = new Map();
    this.shown = null;
    this.window = [0, 80];
  }

  /** Load and show a version; the CT is loaded only once. */
  async show(version) {
    if (this.shown === version) return;
    this.shown = version;
    try {
      await this.#start();
      const { items } = await getJson(`${this.path}/files${atVersion(version)}`, { signal: this.signal });
      const names = new Set(items.map((item) => item.name));
      await this.#showPlanes(version, names);
      await this.#showHead(version, names);
      fill(this.note, this.scaled ? "" : "Not to scale: the spacing is not known.");
      this.element.dataset.version = String(version);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.shown = null;
      fill(this.note, `The 3D view cannot be shown: ${error.message}`);
    }
  }

  #start() {
    this.started ??= this.#attach();
    return this.started;
  }

  async #attach() {
    this.library = await import("../vendor/niivue.js");
    const { Niivue, SLICE_TYPE, SHOW_RENDER } = this.library;
    this.planes = new Niivue({ ...OPTIONS, sliceType: SLICE_TYPE.MULTIPLANAR, multiplanarShowRender: SHOW_RENDER.NEVER, isSliceMM: true });
    this.head = new Niivue({ ...OPTIONS, sliceType: SLICE_TYPE.RENDER, show3Dcrosshair: true, meshXRay: 0.5 });
    await this.planes.attachToCanvas(this.planesCanvas);
    await this.head.attachToCanvas(this.headCanvas);
    this.planes.setCustomLayout([
      { sliceType: SLICE_TYPE.AXIAL, position: [0, 0, 0.5, 1] },
      { sliceType: SLICE_TYPE.CORONAL, position: [0.5, 0, 0.5, 0.5] },
      { sliceType: SLICE_TYPE.SAGITTAL, position: [0.5, 0.5, 0.5, 0.5] },
    ]);
  }

  async #file(name, version) {
    const data = await gunzip(await getBytes(`${this.path}/files/${name}${atVersion(version)}`, { signal: this.signal }));
    if (name.endsWith(".nii.gz") && !this.scaled) setNominalScale(data);
    return data;
  }

  async #showPlanes(version, names) {
    const { NVImage } = this.library;
    if (!this.planes.volumes.length) {
      const ct = await this.#file("ct.nii.gz", version);
      this.planes.addVolume(await NVImage.new(ct, "ct.nii", "gray", 1, null, ...this.window));
      this.planes.moveCrosshairInVox(0, 0, 0);
    }
    for (const old of this.planes.volumes.slice(1)) this.planes.removeVolume(old);
    this.centres = new Map();
    if (!names.has("lesions.nii.gz")) return;
    const lesions = await this.#file("lesions.nii.gz", version);
    this.centres = lesionCentres(lesions);
    const overlay = await NVImage.new(lesions, "lesions.nii", "red", 0.45, null, 0, 1);
    this.planes.addVolume(overlay);
  }

  async #showHead(version, names) {
    const { NVMesh } = this.library;
    for (const old of this.meshes.values()) this.head.removeMesh(old);
    this.meshes = new Map();
    if (!names.has("scene.glb")) return;
    const parts = readSurfaces(await this.#file("scene.glb", version)).filter((part) => part.name !== "skull");
    // Transparent surfaces must be drawn last.
    for (const part of parts.sort((a, b) => (a.name === "brain") - (b.name === "brain"))) {
      const brain = part.name === "brain";
      const rgba = new Uint8Array(brain ? BRAIN : LESION);
      const mesh = new NVMesh(part.points, part.triangles, part.name, rgba, brain ? GLASS : 1, true, this.head.gl);
      this.meshes.set(part.name, mesh);
      this.head.addMesh(mesh);
      if (brain) this.head.setMeshShader(mesh.id, "Matte");
    }
    this.head.setRenderAzimuthElevation(200, 15);
  }

  /** Update the window of the planes after a pause: all voxels are coloured again, which is slow without a GPU. */
  setWindow({ centre, width }) {
    this.window = [centre - width / 2, centre + width / 2];
    clearTimeout(this.windowTimer);
    this.windowTimer = setTimeout(() => {
      const ct = this.planes?.volumes[0];
      if (!ct || (ct.cal_min === this.window[0] && ct.cal_max === this.window[1])) return;
      [ct.cal_min, ct.cal_max] = this.window;
      this.planes.updateGLVolume();
    }, WINDOW_DELAY_MS);
  }

  /** Move the crosshair to a lesion, in the planes and in 3D, and highlight its surface. */
  jump(id) {
    const centre = this.centres.get(id);
    if (!centre) return;
    this.planes.scene.crosshairPos = this.planes.mm2frac(centre);
    this.planes.drawScene();
    for (const [name, mesh] of this.meshes) {
      if (name === "brain") continue;
      mesh.rgba255 = new Uint8Array(name === `lesion_${id}` ? CHOSEN : LESION);
      mesh.updateMesh(this.head.gl);
    }
    this.head.scene.crosshairPos = this.head.mm2frac(centre);
    this.head.drawScene();
    this.element.dataset.lesion = String(id);
    this.element.dataset.place = [...this.planes.frac2mm(this.planes.scene.crosshairPos)].slice(0, 3).map((mm) => mm.toFixed(1)).join(" ");
  }

  #key(event) {
    event.stopPropagation();
    const turn = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, 10], ArrowDown: [0, -10] }[event.key];
    const move = { ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1],
      PageDown: [0, 0, -1] }[event.key];
    if (event.target === this.headCanvas && turn && this.head) {
      const { renderAzimuth, renderElevation } = this.head.scene;
      this.head.setRenderAzimuthElevation(renderAzimuth + turn[0], renderElevation + turn[1]);
    } else if (event.target === this.planesCanvas && move && this.planes?.volumes.length) this.planes.moveCrosshairInVox(...move);
    else return;
    event.preventDefault();
  }

  close() {
    clearTimeout(this.windowTimer);
    for (const view of [this.planes, this.head]) {
      if (!view) continue;
      view.cleanup();
      view.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    }
  }
}
