"use strict";
/* The 3D view. Frame: glTF's (x = patient left, y = up, z = front). The opaque red lesions come first, then the
   translucent brain: its back faces, a depth-only pass, and only its nearest front faces, so that folds do not add up. */
(() => {
  const canvas = document.getElementById("scene");
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true, preserveDrawingBuffer: true });
  if (!gl) {
    document.getElementById("scene-fallback").hidden = false;
    document.getElementById("scene-views").hidden = true;
    canvas.hidden = true;
    return;
  }
  const data = JSON.parse(document.getElementById("scene-data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const half = 1.12 * Math.max(...data.span) / 2;

  const unpack = (mesh) => {
    const packed = new Uint16Array(bytes(mesh.positions));
    const faces = new Uint32Array(bytes(mesh.faces));
    const points = new Float32Array(packed.length);
    for (let i = 0; i < packed.length; i++) points[i] = (packed[i] / 65535 - 0.5) * data.span[i % 3] / half;
    const normals = new Float32Array(points.length);
    for (let f = 0; f < faces.length; f += 3) {
      const [a, b, c] = [faces[f] * 3, faces[f + 1] * 3, faces[f + 2] * 3];
      const u = [0, 1, 2].map((k) => points[b + k] - points[a + k]);
      const v = [0, 1, 2].map((k) => points[c + k] - points[a + k]);
      const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) normals[corner + k] += n[k];
    }
    const vao = gl.createVertexArray();
    gl.bindVertexArray(vao);
    [points, normals].forEach((values, index) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(index);
      gl.vertexAttribPointer(index, 3, gl.FLOAT, false, 0, 0);
    });
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
    return { name: mesh.name, vao, count: faces.length };
  };

  const program = gl.createProgram();
  const shader = (kind, text) => {
    const compiled = gl.createShader(kind);
    gl.shaderSource(compiled, "#version 300 es\nprecision highp float;\n" + text);
    gl.compileShader(compiled);
    if (!gl.getShaderParameter(compiled, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(compiled));
    gl.attachShader(program, compiled);
  };
  shader(gl.VERTEX_SHADER, `
    layout(location = 0) in vec3 point; layout(location = 1) in vec3 normal;
    uniform mat3 turn; uniform vec4 lens; out vec3 seen; out vec3 facing;
    void main() {
      seen = turn * point - vec3(0., 0., lens.z);
      facing = turn * normal;
      float near = .05, far = lens.z + 2.;
      gl_Position = vec4(seen.xy * lens.xy, (-seen.z * (far + near) - 2. * far * near) / (far - near), -seen.z);
    }`);
  shader(gl.FRAGMENT_SHADER, `
    in vec3 seen; in vec3 facing; uniform vec3 tint; uniform vec2 opacity; uniform float shine; out vec4 colour;
    void main() {
      vec3 n = normalize(facing) * (gl_FrontFacing ? 1. : -1.), v = normalize(-seen);
      vec3 key = normalize(vec3(-.45, .7, .75)), fill = normalize(vec3(.8, -.1, .45));
      float light = .26 + .68 * max(dot(n, key), 0.) + .2 * max(dot(n, fill), 0.) + .08 * n.y;
      float gloss = shine * pow(max(dot(n, normalize(key + v)), 0.), 36.);
      float rim = 1. - max(dot(n, v), 0.);
      float alpha = mix(opacity.x, opacity.y, pow(rim, 1.8));
      vec3 lit = tint * light + .12 * tint * pow(rim, 3.);
      colour = vec4(lit * alpha + gloss * (.25 + .75 * alpha), min(1., alpha + gloss * .25));
    }`);
  gl.linkProgram(program);
  gl.useProgram(program);
  const at = Object.fromEntries(["turn", "lens", "tint", "opacity", "shine"].map((name) => [name, gl.getUniformLocation(program, name)]));
  const meshes = data.meshes.map(unpack);
  const brain = meshes.filter((mesh) => mesh.name === "brain");
  const lesions = meshes.filter((mesh) => mesh.name !== "brain");

  const views = { front: [0, 0], left: [-90, 0], right: [90, 0], top: [0, 89] };
  let [yaw, pitch] = [-28, 14], zoom = 1, spinning = false, translucent = true, requested = false, last = 0;
  const labels = Object.entries({ L: [1, 0, 0], R: [-1, 0, 0], S: [0, 1, 0], I: [0, -1, 0], A: [0, 0, 1], P: [0, 0, -1] }).map(([text, direction]) => {
    const span = document.createElement("span");
    const holder = document.getElementById("scene-labels");
    span.textContent = text === "L" || text === "R" ? text + holder.dataset.uncertain : text;
    holder.append(span);
    return { span, point: direction.map((value, k) => value * (data.span[k] / 2 / half + 0.1)) };
  });

  const turn = () => {
    const [y, p] = [yaw, pitch].map((angle) => angle * Math.PI / 180);
    const [cy, sy, cp, sp] = [Math.cos(y), Math.sin(y), Math.cos(p), Math.sin(p)];
    return [cy, sp * sy, -cp * sy, 0, cp, sp, sy, -sp * cy, cp * cy];
  };
  const draw = (mesh) => {
    gl.bindVertexArray(mesh.vao);
    gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
  };
  const paint = (tint, opacity, shine) => {
    gl.uniform3fv(at.tint, tint);
    gl.uniform2fv(at.opacity, opacity);
    gl.uniform1f(at.shine, shine);
  };
  const render = (now) => {
    requested = false;
    if (spinning) yaw += Math.min(now - last, 50) * 0.012;
    last = now;
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(wide * scale) || canvas.height !== Math.round(high * scale)) {
      canvas.width = Math.round(wide * scale);
      canvas.height = Math.round(high * scale);
    }
    const far = 4.2, focus = 3.4 * zoom * Math.min(1, wide / high);
    const lens = [focus * high / wide, focus, far, 0], matrix = turn();
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.depthMask(true);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    gl.enable(gl.CULL_FACE);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.uniformMatrix3fv(at.turn, false, matrix);
    gl.uniform4fv(at.lens, lens);
    gl.cullFace(gl.BACK);
    paint([0.93, 0.16, 0.14], [1, 1], 0.35);
    lesions.forEach(draw);
    if (translucent) {
      gl.depthMask(false);
      gl.cullFace(gl.FRONT);
      paint([0.66, 0.74, 0.82], [0.06, 0.34], 0);
      brain.forEach(draw);
      gl.cullFace(gl.BACK);
      gl.depthMask(true);
      gl.colorMask(false, false, false, false);
      brain.forEach(draw);
      gl.colorMask(true, true, true, true);
      paint([0.9, 0.95, 1.0], lesions.length ? [0.2, 0.72] : [0.55, 0.88], 0.12);
      brain.forEach(draw);
    }
    for (const { span, point } of labels) {
      const [x, y, z] = [0, 1, 2].map((k) => matrix[k] * point[0] + matrix[3 + k] * point[1] + matrix[6 + k] * point[2]);
      const depth = far - z;
      span.style.transform = `translate(-50%, -50%) translate(${(x * lens[0] / depth + 1) * wide / 2}px, ${(1 - y * lens[1] / depth) * high / 2}px)`;
      const towards = z / Math.hypot(...point);
      span.style.opacity = Math.abs(towards) > 0.92 ? 0 : towards < -0.4 ? 0.4 : 1; // seen end-on, the letter would hide the lesions
    }
    canvas.dataset.frame = String(Number(canvas.dataset.frame || 0) + 1);
    if (spinning) ask();
  };
  const ask = () => { if (!requested) { requested = true; requestAnimationFrame(render); } };

  const spin = document.getElementById("scene-spin");
  const setSpin = (on) => {
    spinning = on;
    spin.setAttribute("aria-pressed", String(on));
    ask();
  };
  const move = (across, up) => {
    yaw += across;
    pitch = Math.min(89, Math.max(-89, pitch + up));
    setSpin(false);
  };
  const zoomBy = (factor) => { zoom = Math.min(4, Math.max(0.6, zoom * factor)); setSpin(false); };

  const fingers = new Map();
  let lastDistance = 0;
  const distance = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    canvas.setPointerCapture(event.pointerId);
    if (fingers.size === 2) lastDistance = distance();
    setSpin(false);
  });
  canvas.addEventListener("pointermove", (event) => {
    const from = fingers.get(event.pointerId);
    if (!from) return;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (fingers.size === 1) move((event.clientX - from.x) * 0.4, (event.clientY - from.y) * 0.4);
    if (fingers.size === 2) { const now = distance(); zoomBy(now / Math.max(lastDistance, 1)); lastDistance = now; }
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    const factor = Math.exp(-event.deltaY * (event.deltaMode ? 0.04 : 0.0012));
    if ((factor > 1 && zoom >= 4) || (factor < 1 && zoom <= 0.6)) return; // at the end the page scrolls on
    event.preventDefault();
    zoomBy(factor);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
    const factor = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 }[event.key];
    if (!step && !factor) return;
    event.preventDefault();
    if (step) move(...step); else zoomBy(factor);
  });
  document.querySelectorAll("[data-view]").forEach((button) => button.addEventListener("click", () => {
    [yaw, pitch] = views[button.dataset.view];
    zoom = 1;
    setSpin(false);
  }));
  spin.addEventListener("click", () => setSpin(!spinning));
  const glassButton = document.getElementById("scene-brain");
  glassButton.hidden = !brain.length || !lesions.length;
  glassButton.addEventListener("click", () => {
    translucent = !translucent;
    glassButton.setAttribute("aria-pressed", String(translucent));
    ask();
  });
  new ResizeObserver(ask).observe(canvas);
  canvas.addEventListener("webglcontextlost", () => { document.getElementById("scene-fallback").hidden = false; });

  // The scene rotates slowly until the reader touches it: never with reduced motion, and only while it is visible.
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let started = false, resume = false;
  new IntersectionObserver(([entry]) => {
    if (entry.isIntersecting && !started) { started = true; setSpin(!still); }
    else if (entry.isIntersecting && resume) { resume = false; setSpin(true); }
    else if (!entry.isIntersecting && spinning) { resume = true; setSpin(false); }
  }).observe(canvas);
  ask();
})();
