// Dropped or chosen files, and folders with everything in them.

/** @typedef {{file: File, path: string}} Entry `path` is relative, as "folder/IM0001" */

const HIDDEN = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$|desktop\.ini$)/i;

/** @returns {Promise<Entry[]>} the files of a drop, including those in folders */
export async function getDroppedEntries(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const roots = items.map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const entries = roots.length ? (await Promise.all(roots.map(walk))).flat() : getChosenEntries(transfer.files);
  return removeHidden(entries);
}

/** @returns {Entry[]} the files of a file input */
export function getChosenEntries(files) {
  return removeHidden([...files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
}

export const totalBytes = (entries) => entries.reduce((sum, entry) => sum + entry.file.size, 0);

/** Return a name for the study: that of the folder or of the only file. */
export function getStudyName(entries) {
  const [first] = entries;
  if (!first) return "";
  const folder = first.path.includes("/") ? first.path.split("/")[0] : "";
  if (entries.length === 1) return first.path.split("/").pop();
  return folder || `${first.path} and ${entries.length - 1} more`;
}

const removeHidden = (entries) => entries.filter((entry) => !HIDDEN.test(entry.path));

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const inside = [];
  // A reader returns at most a hundred entries at a time, and none at the end.
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) break;
    inside.push(...batch);
  }
  return (await Promise.all(inside.map(walk))).flat();
}
