// Window presets for head CT: centre and width in Hounsfield units; keys 1 to 4.

export const WINDOWS = [
  { name: "Brain", centre: 40, width: 80 },
  { name: "Subdural", centre: 75, width: 280 },
  { name: "Stroke", centre: 40, width: 40 },
  { name: "Bone", centre: 600, width: 2800 },
];

/** The initial window: for pictures the scan's own, since their values are only meaningful within it. */
export function firstWindow(meta) {
  const [centre, width] = (!meta.calibrated && meta.window) || [WINDOWS[0].centre, WINDOWS[0].width];
  return { centre, width };
}

export const isWindow = (view, preset) => view.centre === preset.centre && view.width === preset.width;

/** Write the grey levels of a slice into RGBA bytes. */
export function paintGrey(values, { centre, width }, rgba) {
  const low = centre - width / 2;
  const scale = 255 / width;
  const pixels = new Uint32Array(rgba.buffer);
  for (let at = 0; at < values.length; at++) {
    const grey = Math.max(0, Math.min(255, (values[at] - low) * scale)) | 0;
    pixels[at] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
}
