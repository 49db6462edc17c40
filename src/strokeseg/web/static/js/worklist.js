// The worklist: all studies that the user may see, newest first, updated as they change.

import { address, call } from "./api.js";
import { announce, button, dialog, el, fill } from "./dom.js";
import { dropZone } from "./drop.js";
import { may } from "./session.js";
import * as store from "./store.js";
import { percent, RUNNING, statusText, verdict, versionName, when } from "./text.js";

const FILTERS = [["", "All"], ["running", "Running"], ["done", "Done"], ["hemorrhage", "Hemorrhage"], ["refused", "No result"]];

/** Show the worklist in `main` until `signal` is aborted. `open` shows a study. */
export async function showWorklist(main, signal, open) {
  document.title = "Worklist · StrokeSeg";
  const body = el("tbody");
  const note = el("p", { class: "empty", hidden: true });
  const more = button("Show older studies", null, { class: "more", hidden: true });
  const state = { q: "", filter: "", next: null };
  const search = el("input", { type: "search", placeholder: "Find by name", "aria-label": "Find a study by its name" });
  const table = el("table", { class: "studies" }, head(), body);
  const zone = dropZone(open);
  fill(main, el("div", { class: "worklist" }, may("write") && zone,
    el("div", { class: "bar" }, el("h2", {}, "Worklist"), filters(state, () => draw()), search),
    el("div", { class: "sheet" }, table), note, more));

  const draw = () => {
    const matching = [...store.studies.values()].filter((study) => matches(study, state)).sort(newestFirst);
    updateRows(body, matching);
    zone.classList.toggle("large", store.studies.size === 0);
    table.hidden = matching.length === 0;
    note.hidden = matching.length > 0;
    note.textContent = store.studies.size ? "No study matches." : "No study yet. The first study that you drop appears here.";
  };
  const load = async (cursor = "") => {
    state.next = await store.list({ q: state.q, cursor });
    more.hidden = !state.next;
    draw();
  };
  more.addEventListener("click", () => load(state.next));
  let typing = 0;
  search.addEventListener("input", () => {
    state.q = search.value.trim();
    draw();
    clearTimeout(typing);
    typing = setTimeout(() => load().catch(() => {}), 300);
  });
  for (const type of ["study", "deleted", "list"]) store.listen(type, draw, signal);
  try {
    await load();
  } catch (error) {
    if (!store.studies.size) {
      note.hidden = false;
      fill(note, error.message, " ", button("Try again", () => showWorklist(main, signal, open)));
    }
  }
}

const newestFirst = (a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : 0);

function matches(study, { q, filter }) {
  if (q && !study.name.toLowerCase().includes(q.toLowerCase())) return false;
  if (filter === "running") return RUNNING.includes(study.status);
  if (filter === "hemorrhage") return study.hemorrhage === true;
  if (filter === "refused") return ["refused", "failed", "cancelled"].includes(study.status);
  return !filter || study.status === filter;
}

function filters(state, onChange) {
  const choices = FILTERS.map(([value, label]) =>
    button(label, () => {
      state.filter = value;
      for (const choice of choices) choice.setAttribute("aria-pressed", String(choice.dataset.filter === value));
      onChange();
    }, { "aria-pressed": String(value === ""), data: { filter: value } }));
  return el("div", { class: "segments", role: "group", "aria-label": "Filter" }, choices);
}

const head = () => el("thead", {}, el("tr", {},
  ["Picture", "Study", "Status", "Finding", "Probability", "Received", "Actions"].map((name, index) =>
    el("th", { scope: "col" }, [0, 6].includes(index) ? el("span", { class: "visually-hidden" }, name) : name))));

/** Replace only the rows that changed, so that the focus stays and thumbnails are not loaded again. */
function updateRows(body, studies) {
  const rows = new Map([...body.children].map((row) => [row.dataset.id, row]));
  let before = null;
  for (const study of studies) {
    let row = rows.get(study.id);
    const key = JSON.stringify(study);
    if (!row || row.dataset.key !== key) {
      const fresh = studyRow(study, row);
      fresh.dataset.key = key;
      const focused = row?.contains(document.activeElement) && document.activeElement.dataset.role;
      row?.replaceWith(fresh);
      row = fresh;
      if (focused) row.querySelector(`[data-role="${focused}"]`)?.focus();
    }
    rows.delete(study.id);
    if (before ? before.nextSibling !== row : body.firstChild !== row) before ? before.after(row) : body.prepend(row);
    before = row;
  }
  for (const row of rows.values()) row.remove();
}

function studyRow(study, oldRow) {
  const running = RUNNING.includes(study.status);
  const progress = study.progress?.total
    ? el("progress", { max: study.progress.total, value: study.progress.done, "aria-label": `Progress of ${study.name}` })
    : null;
  const corrected = study.version > 0 && el("span", { class: "tag" }, versionName(study.version));
  return el("tr", { data: { id: study.id, status: study.status } },
    el("td", { class: "thumb" }, thumbnail(study, oldRow)),
    el("th", { scope: "row" }, el("a", { href: `#/studies/${study.id}`, data: { role: "open" } }, study.name),
      study.priority === "urgent" && el("span", { class: "tag urgent" }, "Urgent"), corrected),
    el("td", { class: "status" }, el("span", { class: `state ${study.status}` }, statusText(study)),
      running && progress, study.error && el("code", {}, study.error.code)),
    el("td", { class: study.hemorrhage ? "finding positive" : "finding" }, verdict(study) || "–"),
    el("td", { class: "confidence" }, study.confidence === null || study.confidence === undefined ? "–" : percent(study.confidence)),
    el("td", { class: "received" }, el("time", { datetime: study.created }, when(study.created))),
    el("td", { class: "actions" }, may("write") && action(study, running)));
}

function thumbnail(study, oldRow) {
  if (!study.has_slices) return el("span", { class: "no-thumb" });
  const source = `${address(`studies/${study.id}/thumbnail`)}?v=${study.version}.${study.has_result}`;
  const image = oldRow?.querySelector("img");
  if (image?.getAttribute("src") === source) return image;
  return el("img", { src: source, alt: "", width: 48, height: 48, loading: "lazy" });
}

function action(study, running) {
  if (running) {
    const cancel = () => call(`studies/${study.id}/cancel`, { method: "POST" }).catch(() => {});
    return button("Cancel", cancel, { class: "quiet", data: { role: "cancel" }, "aria-label": `Cancel ${study.name}` });
  }
  const remove = button("Delete", () => confirmDelete(study), { class: "quiet", data: { role: "delete" }, "aria-label": `Delete ${study.name}` });
  if (study.status !== "failed") return remove; // a refused study would be refused again; its own page offers the retry
  const retry = () => store.retry(study.id).catch((error) => announce(error.message));
  return [button("Try again", retry, { class: "quiet", data: { role: "retry" }, "aria-label": `Try ${study.name} again` }), remove];
}

function confirmDelete(study) {
  const message = el("p", { class: "problem", role: "alert" });
  const remove = async () => {
    try {
      await store.remove(study.id);
      confirmation.close();
    } catch (error) {
      message.textContent = error.message;
    }
  };
  const confirmation = dialog("Delete this study?",
    el("p", {}, `${study.name}: the scan, its results and all corrections are deleted permanently.`), message,
    el("div", { class: "actions" }, button("Cancel", () => confirmation.close()), button("Delete", remove, { class: "danger" })));
  confirmation.showModal();
}
