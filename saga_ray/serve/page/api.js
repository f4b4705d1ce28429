// Calls to the page's own server, with its errors as one class.

const TOKEN = "saga-token";

// An answer that is no success. `status` is 0 where no answer came; `param` is the field that is wrong, if one is;
// `wait` is what Retry-After asks for, in seconds.
export class Refusal extends Error {
  constructor(status, { message = "", param = null } = {}, wait = null) {
    super(message);
    Object.assign(this, { status, param, wait });
  }
}

export const setToken = (token) => sessionStorage.setItem(TOKEN, token);
export const hasToken = () => Boolean(sessionStorage.getItem(TOKEN));
const headers = () => {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
};

// Addresses are relative to the page, so that it also works under a prefix.
const here = (path) => new URL(path.replace(/^\//, ""), document.baseURI).href;

// Raises Refusal, or an AbortError where `signal` fired.
async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(here(path), { ...options, headers: { ...options.headers, ...headers() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0);
  }
  if (answer.ok) return answer;
  const content = await answer.json().catch(() => null);
  const wait = Number.parseFloat(answer.headers.get("Retry-After"));
  throw new Refusal(answer.status, content?.error, Number.isNaN(wait) ? null : wait);
}

export const get = async (path) => (await call(path)).json();
export const blob = async (path, signal) => (await call(path, { signal })).blob();

// Fields with a picture travel as multipart, others as JSON.
export async function post(path, fields, signal) {
  const multipart = Object.values(fields).some((value) => value instanceof Blob);
  if (!multipart) {
    const json = { "Content-Type": "application/json" };
    return (await call(path, { method: "POST", body: JSON.stringify(fields), headers: json, signal })).json();
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return (await call(path, { method: "POST", body: form, signal })).json();
}

// Shows a picture of the server's: an <img> sends no token, so with one the picture is fetched first.
export async function showPicture(image, path) {
  image.dataset.path = path;
  if (!hasToken()) {
    image.src = here(path);
    return;
  }
  const address = URL.createObjectURL(await blob(path).catch(() => new Blob()));
  const done = () => URL.revokeObjectURL(address);
  if (image.dataset.path !== path) return done(); // a newer picture came meanwhile
  image.addEventListener("load", done, { once: true });
  image.addEventListener("error", done, { once: true });
  image.src = address;
}
