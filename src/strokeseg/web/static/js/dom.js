// Creation of elements. Text is only inserted as text: a file name or a DICOM string is never parsed as HTML.

/**
 * Create an element.
 * @param {string} tag
 * @param {Object} attributes `class`, `on` ({click: handler}), `data` ({id: 1}), properties such as `value`, `checked`,
 *   `disabled`, `hidden`; everything else is set as an attribute. null, undefined and false are ignored.
 * @param {...(Node|string|number|null|undefined|false)} children
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (["value", "checked", "disabled", "hidden", "selected", "multiple", "open"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

/** Append children to an element: nodes as they are, strings and numbers as text; null and false are ignored. */
export function append(parent, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
  return parent;
}

/** Replace the children of an element. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  return append(parent, children);
}

/** Replace the children of an element, and keep the focus on the control with the same name. */
export function refill(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const name = (control) => control.getAttribute("aria-label") ?? control.textContent;
  fill(parent, ...children);
  if (!focused || parent.contains(focused)) return focused?.focus({ preventScroll: true });
  const same = [...parent.querySelectorAll(focused.localName)].find((control) => name(control) === name(focused));
  return same?.focus({ preventScroll: true });
}

/** Announce a text to screen readers, once, without moving the focus. */
export function announce(text) {
  const announcer = document.getElementById("announcer");
  if (announcer.textContent !== text) announcer.textContent = text;
}

/** A labelled field: the label is the element around the control. */
export function field(label, control, hint = null) {
  return el("label", { class: "field" }, el("span", {}, label), control, hint && el("small", {}, hint));
}

export function button(label, handler, attributes = {}) {
  return el("button", { type: "button", on: { click: handler }, ...attributes }, label);
}

/** Create a modal dialog, which is removed from the page when it closes; open it with `showModal()`. */
export function dialog(title, ...children) {
  const id = `dialog-${Math.random().toString(36).slice(2)}`;
  const element = el("dialog", { "aria-labelledby": id }, el("h2", { id }, title), ...children);
  element.addEventListener("close", () => element.remove());
  document.body.append(element);
  return element;
}

/** Small settings stored in this browser; a browser may refuse to store them. */
export const settings = {
  get(key, fallback = null) {
    try {
      return localStorage.getItem(`strokeseg.${key}`) ?? fallback;
    } catch {
      return fallback;
    }
  },
  set(key, value) {
    try {
      if (value === null) localStorage.removeItem(`strokeseg.${key}`);
      else localStorage.setItem(`strokeseg.${key}`, value);
    } catch {
      /* private windows may refuse it */
    }
  },
};
