// Elements, made from data. Text goes in as text only: a file name or a DICOM string is never parsed as HTML.

/**
 * Make an element.
 * @param {string} tag
 * @param {Object} attributes `class`, `on` ({click: handler}), `data` ({id: 1}), properties such as `value`, `checked`,
 *   `disabled`, `hidden`; everything else is set as an attribute. null, undefined and false are left out.
 * @param {...(Node|string|number|null|undefined|false)} children
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    else if (name === "data") Object.assign(made.dataset, value);
    else if (["value", "checked", "disabled", "hidden", "selected", "multiple", "open"].includes(name)) made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  append(made, children);
  return made;
}

/** Put children into an element: nodes as they are, strings and numbers as text, nothing for null and false. */
export function append(parent, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
  return parent;
}

/** Replace what an element holds. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  return append(parent, children);
}

/** Replace what an element holds, and keep the focus on the control of the same name. */
export function refill(parent, ...children) {
  const held = parent.contains(document.activeElement) ? document.activeElement : null;
  const name = (control) => control.getAttribute("aria-label") ?? control.textContent;
  fill(parent, ...children);
  if (!held || parent.contains(held)) return held?.focus({ preventScroll: true });
  const same = [...parent.querySelectorAll(held.localName)].find((control) => name(control) === name(held));
  return same?.focus({ preventScroll: true });
}

/** Tell those who listen to the page, once, without taking the focus. */
export function announce(text) {
  const region = document.getElementById("announcer");
  if (region.textContent !== text) region.textContent = text;
}

/** A labelled field: the label is the element around the control. */
export function field(label, control, hint = null) {
  return el("label", { class: "field" }, el("span", {}, label), control, hint && el("small", {}, hint));
}

export function button(label, handler, attributes = {}) {
  return el("button", { type: "button", on: { click: handler }, ...attributes }, label);
}

/** A modal dialog, removed from the page when it closes. Give it to `showModal()`. */
export function dialog(title, ...children) {
  const id = `dialog-${Math.random().toString(36).slice(2)}`;
  const made = el("dialog", { "aria-labelledby": id }, el("h2", { id }, title), ...children);
  made.addEventListener("close", () => made.remove());
  document.body.append(made);
  return made;
}

/** Remember a small choice of this browser; a browser that keeps nothing is no fault. */
export const memory = {
  get(key, otherwise = null) {
    try {
      return localStorage.getItem(`strokeseg.${key}`) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(key, value) {
    try {
      if (value === null) localStorage.removeItem(`strokeseg.${key}`);
      else localStorage.setItem(`strokeseg.${key}`, value);
    } catch {
      /* private windows may refuse */
    }
  },
};
