// What a person drops or chooses: files, or folders with all that lies in them.

/** @typedef {{file: File, path: string}} Entry `path` is relative, as "folder/IM0001" */

const HIDDEN = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$|desktop\.ini$)/i;

/** @returns {Promise<Entry[]>} of a drop; folders are walked */
export async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const roots = items.map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = roots.length ? (await Promise.all(roots.map(walk))).flat() : chosen(transfer.files);
  return visible(found);
}

/** @returns {Entry[]} of a file field */
export function chosen(files) {
  return visible([...files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
}

export const total = (entries) => entries.reduce((sum, entry) => sum + entry.file.size, 0);

/** Give a name for the study: the folder's, or the one file's. */
export function nameOf(entries) {
  const [first] = entries;
  if (!first) return "";
  const folder = first.path.includes("/") ? first.path.split("/")[0] : "";
  if (entries.length === 1) return first.path.split("/").pop();
  return folder || `${first.path} and ${entries.length - 1} more`;
}

const visible = (entries) => entries.filter((entry) => !HIDDEN.test(entry.path));

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const inside = [];
  // A reader gives at most a hundred entries at a time, and none when all were given.
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) break;
    inside.push(...batch);
  }
  return (await Promise.all(inside.map(walk))).flat();
}
