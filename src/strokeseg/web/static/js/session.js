// The current user: no sign-in, a token, or single sign-on.

import { call, getJson, onUnauthorized } from "./api.js";
import { button, dialog, el, field, fill } from "./dom.js";

export let me = { user: "", group: null, scopes: [], auth: "off", oidc_login: null };
let asking = null;

/** Get the current user from the server and show it; ask to sign in if that is required. */
export async function start() {
  onUnauthorized(askOnce);
  await loadUser();
  if (me.auth === "required") await askOnce();
}

export const may = (scope) => me.auth === "off" || me.scopes.includes(scope) || me.scopes.includes("admin");

async function loadUser() {
  me = await getJson("me", { login: false });
  const element = document.getElementById("session");
  if (["off", "required"].includes(me.auth)) return fill(element);
  return fill(element, el("span", { class: "who" }, me.user), button("Sign out", signOut, { class: "quiet" }));
}

async function signOut() {
  await call("auth/logout", { method: "POST", login: false }).catch(() => {});
  location.reload();
}

/** Several calls may be refused at the same time: one dialog serves them all. */
function askOnce() {
  asking ??= ask().finally(() => {
    asking = null;
  });
  return asking;
}

async function ask() {
  const user = await getJson("me", { login: false }).catch(() => me);
  return new Promise((resolve) => {
    const message = el("p", { class: "problem", role: "alert" });
    const token = el("input", { type: "password", name: "token", autocomplete: "off", required: true });
    const form = el("form", { method: "dialog" }, field("Access token", token,
      "An administrator creates one with: strokeseg tokens create"), message,
      el("div", { class: "actions" }, el("button", { class: "primary" }, "Sign in")));
    const login = user.oidc_login && el("a", { class: "button", href: user.oidc_login }, "Sign in with your organization");
    const signIn = dialog("Sign in", login, form);
    signIn.classList.add("sign-in");
    let isSignedIn = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await call("auth/session", { method: "POST", json: { token: token.value.trim() }, login: false });
        isSignedIn = true;
        await loadUser();
        signIn.close();
      } catch (error) {
        message.textContent = error.status === 401 ? "This token is not known or has expired." : error.message;
        token.select();
      }
    });
    signIn.addEventListener("close", () => resolve(isSignedIn));
    signIn.showModal();
  });
}
