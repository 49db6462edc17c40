// The surfaces of our scene.glb: indexed triangles in metres, y up, named by their nodes.

const JSON_CHUNK = 0x4e4f534a;

/**
 * Read the named surfaces and convert them to the frame of NIfTI: RAS mm.
 * @param {ArrayBuffer} data
 * @returns {{name: string, points: Float32Array, triangles: Uint32Array}[]}
 */
export function readSurfaces(data) {
  const view = new DataView(data);
  const length = view.getUint32(12, true);
  if (view.getUint32(16, true) !== JSON_CHUNK) throw new Error("scene.glb does not begin with its description");
  const tree = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 20, length)));
  const binary = 20 + length + 8;
  const array = (index, Kind, width) => {
    const accessor = tree.accessors[index];
    const start = binary + (tree.bufferViews[accessor.bufferView].byteOffset ?? 0) + (accessor.byteOffset ?? 0);
    return new Kind(data.slice(start, start + accessor.count * width * 4));
  };
  return tree.nodes.filter((node) => node.mesh !== undefined).map((node) => {
    const [primitive] = tree.meshes[node.mesh].primitives;
    if (tree.accessors[primitive.indices].componentType !== 5125) throw new Error("scene.glb has other indices than uint32");
    const triangles = array(primitive.indices, Uint32Array, 1);
    return { name: node.name, points: toRas(array(primitive.attributes.POSITION, Float32Array, 3)), triangles };
  });
}

/** In glTF x is the patient's left, y the top of the head, z the face: a rotation, not a reflection. */
function toRas(points) {
  const rotated = new Float32Array(points.length);
  for (let at = 0; at < points.length; at += 3) {
    rotated[at] = -points[at] * 1000;
    rotated[at + 1] = points[at + 2] * 1000;
    rotated[at + 2] = points[at + 1] * 1000;
  }
  return rotated;
}
