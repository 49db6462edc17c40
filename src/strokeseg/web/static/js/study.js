// One study: its slices, then its outline, measurements and 3D view, each as soon as it is available.

import { atVersion, call, getJson } from "./api.js";
import { correct, lesionActions } from "./correct.js";
import { announce, button, el, fill, refill, settings } from "./dom.js";
import { findingsView, lesionList, modelView, remarksView } from "./findings.js";
import { downloads, versionList } from "./outputs.js";
import { may } from "./session.js";
import { Space, webGLSupport } from "./space.js";
import { makeStage } from "./stage.js";
import * as store from "./store.js";
import { RETRYABLE, RUNNING, statusText, versionName, when } from "./text.js";
import { toolbar } from "./toolbar.js";
import { Volume } from "./volume.js";

const ERRORS = { refused: "This scan was refused", done: "The last correction could not be saved" };
const WIDE = "(min-width: 1200px)";
const LAYOUTS = [["slices", "Slices"], ["both", "Both"], ["space", "3D"]];

/** Show a study in `main` until `signal` is aborted. */
export async function showStudy(main, id, signal) {
  const study = await store.study(id);
  if (store.studies.size < 2) store.list().catch(() => {}); // studies to compare with
  const page = new StudyPage(main, study, signal);
  store.listen("study", (changed) => changed.id === id && page.update(changed), signal);
  store.listen("list", () => page.showOthers(), signal);
  store.listen("deleted", (deletedId) => deletedId === id && page.showDeleted(), signal);
  store.listen("connection", (connected) => connected && store.study(id).catch(() => {}), signal);
  signal.addEventListener("abort", () => page.close());
  await page.update(study);
}

class StudyPage {
  constructor(main, study, signal) {
    Object.assign(this, { main, study, signal });
    this.version = null; // the shown version; a chosen one stays, otherwise the latest is shown
    this.pinned = false;
    this.parts = Object.fromEntries(["title", "viewer", "panel"].map((name) => [name, el("div", { class: name })]));
    this.stage = null;
    this.space = null;
    this.result = null;
    this.correction = null;
    this.busy = Promise.resolve();
    fill(main, el("div", { class: "study" }, this.parts.title, el("div", { class: "columns" }, this.parts.viewer, this.parts.panel)));
  }

  /** Show the current state of the study; each change is completed before the next one. */
  update(study) {
    this.study = study;
    document.title = `${study.name} · StrokeSeg`;
    this.showTitle();
    this.busy = this.busy.then(() => this.#showState()).catch((error) => {
      if (error.name !== "AbortError") this.showError(error);
    });
    return this.busy;
  }

  async #showState() {
    const { study } = this;
    if (this.signal.aborted) return;
    if (study.has_slices && !this.stage) await this.openViewer();
    if (!study.has_slices) this.showWaiting();
    if (study.has_result) await this.showLatest();
    else this.showProgress();
  }

  /** Show the latest version, unless another was chosen or a correction is in progress. */
  async showLatest() {
    const version = this.pinned ? this.version : this.study.version;
    if (this.correction) return this.noteNewer();
    if (version !== this.version || !this.result) return this.showVersion(version);
    return this.showPanel();
  }

  showTitle() {
    const { study } = this;
    const running = RUNNING.includes(study.status);
    fill(this.parts.title, el("a", { class: "back", href: "#/" }, "Worklist"), el("h1", {}, study.name),
      el("span", { class: `state ${study.status}` }, statusText(study)),
      running && study.progress?.total > 0 && el("progress", { max: study.progress.total, value: study.progress.done, "aria-label": "Progress" }),
      running && may("write") && button("Cancel", () => call(`studies/${study.id}/cancel`, { method: "POST" }).catch(() => {}), { class: "quiet" }),
      el("span", { class: "muted received" }, when(study.created)));
  }

  showWaiting() {
    const running = RUNNING.includes(this.study.status);
    fill(this.parts.viewer, running && el("div", { class: "dark waiting" }, el("p", {}, "Reading the scan …")));
  }

  async openViewer() {
    const volume = await new Volume(this.study.id, this.signal).open();
    this.volume = volume;
    volume.load();
    this.stage = makeStage(volume, { label: "Slices", jump: (step) => this.jumpBy(step) });
    this.stage.views.add((view) => this.space?.setWindow(view));
    this.tools = el("div", { class: "tools" }, toolbar([this.stage], [this.layoutChoice()]));
    this.screen = el("div", { class: "screen" }, this.stage.element);
    fill(this.parts.viewer, el("div", { class: "dark" }, this.tools, this.screen));
    const both = this.webGL === "yes" && window.matchMedia(WIDE).matches;
    this.setLayout(settings.get("layout") ?? (both ? "both" : "slices"));
  }

  layoutChoice() {
    this.webGL = webGLSupport();
    if (this.webGL === "no") return el("span", { class: "muted" }, "3D needs WebGL, which this browser does not support.");
    this.layouts = LAYOUTS.map(([layout, label]) => button(label, () => {
      settings.set("layout", layout);
      this.setLayout(layout);
    }, { data: { layout } }));
    return el("div", { class: "group segments layouts", role: "group", "aria-label": "Layout" }, this.layouts);
  }

  setLayout(layout) {
    this.layout = this.layouts ? layout : "slices";
    this.screen.dataset.layout = this.layout;
    for (const choice of this.layouts ?? []) choice.setAttribute("aria-pressed", String(choice.dataset.layout === this.layout));
    this.showSpace();
  }

  /** Load the 3D view once it is on the screen and there is a result. */
  async showSpace() {
    if (this.layout === "slices") return;
    if (this.version === null) {
      this.placeholder ??= el("p", { class: "space waiting" }, "The planes and the 3D view appear with the result.");
      this.screen.append(this.placeholder);
      return;
    }
    this.placeholder?.remove();
    if (!this.space) {
      this.space = new Space(this.study.id, this.volume.scaled, this.signal);
      this.screen.append(this.space.element);
    }
    this.space.setWindow(this.stage.plane.view);
    await this.space.show(this.version);
  }

  async showVersion(version) {
    const path = `studies/${encodeURIComponent(this.study.id)}`;
    const [result] = await Promise.all([
      getJson(`${path}/result${atVersion(version)}`, { signal: this.signal }),
      this.volume.loadLabels(version),
    ]);
    const first = this.result === null;
    this.version = version;
    this.result = result;
    this.cards ??= (await getJson("models", { signal: this.signal }).catch(() => ({ items: [] }))).items;
    this.files = await downloads(this.study, result, this.volume, version, this.signal);
    this.model = modelView(result, this.cards);
    const largest = first && result.findings.lesions[0] && this.volume.findLargestSlice(result.findings.lesions[0].id);
    if (largest) this.stage.plane.set({ index: largest.slice });
    this.showPanel();
    announce(`${result.findings.hemorrhage ? "Hemorrhage detected" : "No hemorrhage detected"}. Showing ${versionName(version)}.`);
    this.showSpace();
  }

  showPanel() {
    const editing = this.correction?.edit;
    refill(this.parts.panel,
      this.errorView(),
      this.newer && el("p", { class: "notice", role: "status" }, this.newer),
      editing?.dirty && el("p", { class: "notice" }, "Unsaved corrections: the measurements are those of the version before."),
      findingsView(this.result), lesionList(this.result, (id) => this.jump(id), (lesion) => editing && lesionActions(editing, lesion)),
      remarksView(this.result.remarks, (index) => this.stage.plane.set({ index })),
      this.correctionStart(), versionList(this.study, this.version, (version) => this.choose(version)),
      !editing && [this.compareChoice(), this.files], this.model);
    this.parts.panel.dataset.version = String(this.version);
  }

  correctionStart() {
    if (this.correction || !may("write") || RUNNING.includes(this.study.status)) return null;
    return el("section", { class: "correct-start" }, button("Correct the outline", () => this.startCorrection()));
  }

  startCorrection() {
    if (this.layout === "space") this.setLayout("slices");
    this.correction = correct({
      id: this.study.id, volume: this.volume, stage: this.stage, onChange: () => this.showPanel(),
      onEnd: (study) => this.endCorrection(study),
    });
    this.tools.append(this.correction.bar);
    this.showPanel();
    this.stage.surface.focus();
  }

  endCorrection(study) {
    this.correction.bar.remove();
    this.correction = null;
    this.newer = null;
    this.pinned = false;
    if (!study) return this.update(this.study);
    announce("Saved. The measurements are being updated.");
    store.update(study);
    return undefined;
  }

  noteNewer() {
    const latest = this.study.versions?.find((version) => version.version === this.study.version);
    if (latest && latest.version > this.version) {
      this.newer = `${latest.author || "Someone"} has saved version ${latest.version} in the meantime. Yours will be saved as a separate version.`;
    }
    this.showPanel();
  }

  choose(version) {
    if (this.correction) return announce("Save or leave the correction first.");
    this.pinned = version !== this.study.version;
    return this.showVersion(version).catch((error) => this.showError(error));
  }

  jump(id) {
    const largest = this.volume.findLargestSlice(id);
    if (largest) this.stage.plane.set({ index: largest.slice });
    this.space?.jump(id);
    this.lesion = id;
    for (const row of this.parts.panel.querySelectorAll("[data-lesion]")) {
      row.toggleAttribute("data-chosen", row.dataset.lesion === String(id));
    }
  }

  jumpBy(step) {
    const ids = this.result?.findings.lesions.map((lesion) => lesion.id) ?? [];
    if (!ids.length) return;
    const at = ids.indexOf(this.lesion);
    this.jump(ids[at < 0 ? 0 : (at + step + ids.length) % ids.length]);
  }

  /** The list of studies may arrive after the page. */
  showOthers() {
    this.parts.panel.querySelector(".compare-choice")?.replaceWith(this.compareChoice());
  }

  compareChoice() {
    const others = [...store.studies.values()].filter((other) => other.id !== this.study.id && other.has_result);
    const choice = el("select", { "aria-label": "Study to compare with", disabled: !others.length },
      el("option", { value: "" }, others.length ? "Choose a study …" : "No other study has a result"),
      others.map((other) => el("option", { value: other.id }, `${other.name}, ${when(other.created)}`)));
    choice.addEventListener("change", () => {
      const other = store.studies.get(choice.value);
      if (!other) return;
      const [earlier, later] = [other, this.study].sort((a, b) => (a.created < b.created ? -1 : 1));
      location.hash = `#/compare/${earlier.id}/${later.id}`;
    });
    return el("section", { class: "compare-choice", "aria-labelledby": "compare-title" },
      el("h2", { id: "compare-title" }, "Compare"), choice);
  }

  showProgress() {
    const { study } = this;
    const running = RUNNING.includes(study.status);
    fill(this.parts.panel, this.errorView(), running && el("section", { class: "findings" },
      el("h2", { class: "verdict" }, statusText(study)), el("p", { class: "muted" }, "The result appears here automatically.")),
    !running && !study.error && el("section", {}, el("h2", {}, statusText(study)), el("p", {}, "There is no result.")));
    announce(statusText(study));
  }

  errorView() {
    const { error, status } = this.study;
    if (!error) return null;
    return el("section", { class: "card refused", role: "alert" },
      el("h2", {}, ERRORS[status] ?? "This study failed"),
      el("p", {}, error.detail), error.remedy && el("p", { class: "remedy" }, error.remedy), el("p", {}, el("code", {}, error.code)),
      RETRYABLE.includes(status) && may("write") && button("Try again", () => this.retry()));
  }

  /** Have the server process this study again; someone else may have done so at the same moment. */
  retry() {
    return store.retry(this.study.id).catch((error) => announce(error.message));
  }

  showError(error) {
    fill(this.parts.panel, el("section", { class: "card refused", role: "alert" }, el("h2", {}, "Cannot be displayed"),
      el("p", {}, `${error.message} ${error.remedy ?? ""}`),
      button("Try again", () => {
        this.version = null;
        this.update(this.study);
      })));
  }

  showDeleted() {
    fill(this.main, el("section", { class: "card problem-card" }, el("h1", {}, "This study was deleted"),
      el("p", {}, "It was deleted here or in another tab."), el("a", { class: "button", href: "#/" }, "Back to the worklist")));
    this.close();
  }

  close() {
    this.correction?.close();
    this.stage?.close();
    this.space?.close();
  }
}
