// The fields of our NIfTI-1 files that the page reads: little endian, an sform, uint8 or uint16 labels.

const AT = { dim: 40, datatype: 70, pixdim: 76, offset: 108, srow: 280 };
const UINT16 = 512;

/** Without a known spacing a voxel of our NIfTI measures 1. The 3D scene uses these nominal sizes instead, mm
 * (strokeseg/scan.py); with them the planes have the proportions of a head and fit the scene. */
export const NOMINAL = { fieldOfView: 230, step: 5 };

/** Set the nominal scale of a volume without one, in place. */
export function setNominalScale(data) {
  const view = new DataView(data);
  const [columns, rows] = [1, 2].map((axis) => view.getInt16(AT.dim + 2 * axis, true));
  const pixel = NOMINAL.fieldOfView / Math.max(columns, rows);
  const sizes = [pixel, pixel, NOMINAL.step];
  sizes.forEach((size, axis) => {
    view.setFloat32(AT.pixdim + 4 * (axis + 1), size, true);
    for (let row = 0; row < 3; row++) {
      const at = AT.srow + 16 * row + 4 * axis;
      view.setFloat32(at, view.getFloat32(at, true) * size, true);
    }
  });
}

/**
 * Find the centre of each lesion, and set every label to 1, in place.
 * @returns {Map<number, number[]>} id: RAS mm of the voxel nearest to its centre
 */
export function lesionCentres(data) {
  const view = new DataView(data);
  const [columns, rows, slices] = [1, 2, 3].map((axis) => view.getInt16(AT.dim + 2 * axis, true));
  const Kind = view.getInt16(AT.datatype, true) === UINT16 ? Uint16Array : Uint8Array;
  const labels = new Kind(data, view.getFloat32(AT.offset, true), columns * rows * slices);
  const sums = new Map();
  const toVoxel = (at) => [at % columns, Math.floor(at / columns) % rows, Math.floor(at / (columns * rows))];
  const each = (visit) => labels.forEach((id, at) => id && visit(id, toVoxel(at)));
  each((id, [c, r, s]) => {
    const sum = sums.get(id) ?? { count: 0, c: 0, r: 0, s: 0, nearest: Infinity, voxel: null };
    sums.set(id, { ...sum, count: sum.count + 1, c: sum.c + c, r: sum.r + r, s: sum.s + s });
  });
  each((id, voxel) => {
    const sum = sums.get(id);
    const apart = [sum.c, sum.r, sum.s].reduce((total, all, axis) => total + (all / sum.count - voxel[axis]) ** 2, 0);
    if (apart < sum.nearest) Object.assign(sum, { nearest: apart, voxel });
  });
  labels.forEach((id, at) => {
    if (id) labels[at] = 1;
  });
  return new Map([...sums].map(([id, sum]) => [id, toMm(view, sum.voxel)]));
}

function toMm(view, voxel) {
  return [0, 1, 2].map((row) => {
    const term = (axis) => view.getFloat32(AT.srow + 16 * row + 4 * axis, true);
    return term(3) + voxel.reduce((sum, index, axis) => sum + index * term(axis), 0);
  });
}
