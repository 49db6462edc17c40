// Numbers and words for display. An unknown value is "not measured", never 0.

const LOCATIONS = { deep: "deep", lobar: "lobar", ventricle: "ventricle", "extra-axial": "outside the brain (extra-axial)",
  cerebellum: "cerebellum", brainstem: "brainstem", unsure: "uncertain" };
const STATUS = { queued: "Queued", reading: "Reading", segmenting: "Segmenting", measuring: "Measuring",
  writing: "Writing", delivering: "Delivering", done: "Done", refused: "Refused", failed: "Failed",
  cancelled: "Cancelled" };

export const UNKNOWN = "not measured";
export const RUNNING = ["queued", "reading", "segmenting", "measuring", "writing", "delivering"];
export const RETRYABLE = ["failed", "refused"];

export function number(value, unit = "", digits = 1) {
  if (value === null || value === undefined) return UNKNOWN;
  return `${value.toFixed(digits)}${unit && ` ${unit}`}`;
}

export const ml = (value) => value === 0 ? "0 ml" : number(value, "ml", value !== null && value !== undefined && value < 1 ? 2 : 1);

/** A change with its sign. */
export const signed = (value, text) => (value > 0 ? `+${text}` : text);

export function interval(pair, unit) {
  return pair ? `${pair[0].toFixed(1)} to ${pair[1].toFixed(1)} ${unit}` : null;
}

export function percent(share) {
  if (share === null || share === undefined) return UNKNOWN;
  const value = share * 100;
  return value > 99 ? "over 99 %" : value < 1 ? "under 1 %" : `${value.toFixed(0)} %`;
}

export const locationText = (name) => (name ? LOCATIONS[name] ?? name : UNKNOWN);

export const statusText = (study) => {
  const progress = study.progress;
  const count = progress && progress.total ? ` ${progress.done}/${progress.total}` : "";
  return (STATUS[study.status] ?? study.status) + (RUNNING.includes(study.status) ? count : "");
};

/** Slices are displayed from 1, which is the lowest. */
export const sliceRange = ([first, last]) => (first === last ? `slice ${first + 1}` : `slices ${first + 1}–${last + 1}`);

/** A study's finding in a few words. */
export function verdict(study) {
  if (study.hemorrhage === null || study.hemorrhage === undefined) return "";
  if (!study.hemorrhage) return "No hemorrhage detected";
  return study.volume_ml === null ? "Hemorrhage, volume unknown" : `Hemorrhage, ${ml(study.volume_ml)}`;
}

export function when(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  return count < 1e6 ? `${(count / 1e3).toFixed(0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

export const versionName = (version) => (version === 0 ? "Network's result" : `Version ${version}`);
