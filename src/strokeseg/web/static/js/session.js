// Who is asking: nothing to do on this machine alone, a token, or a login elsewhere.

import { call, getJson, onUnauthorized } from "./api.js";
import { button, dialog, el, field, fill } from "./dom.js";

export let me = { user: "", group: null, scopes: [], auth: "off", oidc_login: null };
let asking = null;

/** Ask the server who we are, and show it; asks for a token where one is needed. */
export async function begin() {
  onUnauthorized(askOnce);
  await learn();
  if (me.auth === "required") await askOnce();
}

export const may = (scope) => me.auth === "off" || me.scopes.includes(scope) || me.scopes.includes("admin");

async function learn() {
  me = await getJson("me", { login: false });
  const shown = document.getElementById("session");
  if (["off", "required"].includes(me.auth)) return fill(shown);
  return fill(shown, el("span", { class: "who" }, me.user), button("Sign out", leave, { class: "quiet" }));
}

async function leave() {
  await call("auth/logout", { method: "POST", login: false }).catch(() => {});
  location.reload();
}

/** Several calls may be refused at once: one dialog answers them all. */
function askOnce() {
  asking ??= ask().finally(() => {
    asking = null;
  });
  return asking;
}

async function ask() {
  const known = await getJson("me", { login: false }).catch(() => me);
  return new Promise((resolve) => {
    const said = el("p", { class: "problem", role: "alert" });
    const token = el("input", { type: "password", name: "token", autocomplete: "off", required: true });
    const form = el("form", { method: "dialog" }, field("Access token", token,
      "An administrator makes one with: strokeseg tokens create"), said,
      el("div", { class: "actions" }, el("button", { class: "primary" }, "Sign in")));
    const login = known.oidc_login && el("a", { class: "button", href: known.oidc_login }, "Sign in with your organisation");
    const shown = dialog("Sign in", login, form);
    shown.classList.add("sign-in");
    let entered = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await call("auth/session", { method: "POST", json: { token: token.value.trim() }, login: false });
        entered = true;
        await learn();
        shown.close();
      } catch (error) {
        said.textContent = error.status === 401 ? "This token is not known, or has expired." : error.message;
        token.select();
      }
    });
    shown.addEventListener("close", () => resolve(entered));
    shown.showModal();
  });
}
