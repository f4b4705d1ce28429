// The page: drop a picture, see its neighbours, go on with one of them. It talks to its own server alone.

import { Refusal, blob, get, post, setToken, showPicture } from "./api.js";
import { describe, draw, isEven, top } from "./attention.js";
import { EMPTY_INDEX, NO_INDEX, NO_PICTURE, UNTIL_THEN, count, wordsFor } from "./words.js";

const at = (id) => document.getElementById(id);
// The queries since the page was loaded: {text}, {file} or {id, label, metadata, thumbnail}, perhaps with {instruction}.
const visits = new Map();
let model = null; // what GET /models says
let shown = null; // the query on the page
let searching = new AbortController(); // a newer search, or look, ends the one before
let looking = new AbortController();
let retry = null; // what "Try again" and a token do

// ---- start

async function start() {
  clearTrouble();
  try {
    model = (await get("models")).data[0];
  } catch (error) {
    return trouble(error, start);
  }
  document.title = `${model.id} · SAGA search`;
  at("model").textContent = model.id;
  const facts = {
    "Pictures in the index": model.index ? `${model.index.size.toLocaleString("en")} (${model.index.kind})` : "no index",
    Embedding: count(model.embedding_size, "number"),
    "Model sees": `${model.image_size} × ${model.image_size} pixels`,
    "Model's hash": model.hash.slice(0, 12),
  };
  describeWith(at("facts"), facts);
  at("compose").hidden = !(model.accepts.includes("composed") && model.index?.size);
  if (!model.index) say({ ...NO_INDEX, text: NO_INDEX.text + (model.attention ? UNTIL_THEN : "") });
  else if (model.index.size === 0) say(EMPTY_INDEX);
  else if (model.index.examples?.length) offer(model.index.examples);
  arrive();
}

// Pictures of the index to start from, where the server names some.
function offer(examples) {
  at("hint").textContent = "Neighbours appear here. Or start from a picture of the index:";
  at("hits").replaceChildren(...examples.map((example) => card(example, null)));
}

// ---- queries, and Back and Forward between them

// A row of the index and a text are kept in the history itself, which outlives a reload; a file cannot be.
function ask(query) {
  const visit = `${performance.timeOrigin} ${visits.size}`;
  visits.set(visit, query);
  const { id, label, metadata, thumbnail, text, instruction } = query;
  const kept = { id, label, metadata, thumbnail, text, instruction };
  const named = Object.entries({ id, text, instruction }).filter(([, value]) => value);
  history.pushState({ visit, kept: query.file ? null : kept }, "", query.file ? location.pathname : `#${new URLSearchParams(named)}`);
  show(query);
  if (at("query").getBoundingClientRect().top < 0) at("query").scrollIntoView();
}

function arrive() {
  const { id, text, instruction } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const known = visits.get(history.state?.visit) ?? history.state?.kept;
  if (known) show(known);
  else if (id && model?.index) show({ id, instruction, thumbnail: `/thumbnails/${encodeURIComponent(id)}` });
  else if (text && model?.index) show({ text });
  else if (shown) location.reload();
}

function show(query) {
  describeWords(query);
  shown = query;
  describeQuery(query);
  showQuery(query);
  look();
  search();
}

// What was written and not yet searched with stays; what was, goes with its query.
function describeWords({ text, instruction }) {
  const field = at("instruction");
  const words = text ?? instruction ?? "";
  const before = shown?.text ?? shown?.instruction ?? "";
  if (words || field.value.trim() === before) field.value = words;
  at("without").hidden = !instruction;
  at("found-title").textContent = words ? `${text ? "Found for" : "Composed with"} “${words}”` : "Nearest neighbours";
}

function describeQuery({ id, file, label, metadata, text }) {
  at("about").hidden = Boolean(text);
  at("name").textContent = text ?? (file ? file.name || "Your picture" : label || id);
  at("details").hidden = Boolean(file || text);
  describeWith(at("metadata"), file || text ? {} : { id, ...metadata });
  document.title = `${at("name").textContent} · SAGA search`;
}

function showQuery(query) {
  const image = at("shown");
  URL.revokeObjectURL(image.src);
  at("picture").classList.toggle("filled", !query.text);
  at("unseen").hidden = true;
  image.hidden = Boolean(query.text);
  if (query.text) return image.removeAttribute("src");
  image.alt = query.file ? "Your picture" : `Picture of the index: ${query.label || query.id}`;
  image.dataset.path = "";
  if (query.file) image.src = URL.createObjectURL(query.file);
  else showPicture(image, query.thumbnail);
}

const seen = (readable) => {
  const { naturalWidth, naturalHeight } = at("shown");
  at("shown").hidden = !readable;
  at("unseen").hidden = readable;
  at("crop").hidden = !readable || Math.abs(naturalWidth - naturalHeight) <= 1;
};

// ---- neighbours

async function search() {
  searching.abort();
  searching = new AbortController();
  const { signal } = searching;
  const query = shown;
  if (!model.index?.size) return;
  clearTrouble();
  const wanted = Number(at("count").value);
  if (query.asked !== wanted) {
    at("status").textContent = "Searching…";
    at("hits").setAttribute("aria-busy", "true");
    const began = performance.now();
    try {
      query.hits = await find(query, wanted, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      at("hits").replaceChildren();
      at("hits").removeAttribute("aria-busy");
      at("status").textContent = "";
      return trouble(error, search);
    }
    query.asked = wanted;
    query.milliseconds = Math.round(performance.now() - began);
  }
  list(query);
}

async function find({ file, id, text, instruction }, k, signal) {
  const what = text ? { text } : file ? { file } : { id };
  const answer = await (instruction ? post("compose", { ...what, instruction, k }, signal) : post("search", { ...what, k }, signal));
  return answer.hits;
}

// The picture that is shown, searched with these words; without a picture, the words alone.
function compose(words) {
  const { file, id, label, metadata, thumbnail, attention } = shown ?? {};
  if (file || id) ask({ file, id, label, metadata, thumbnail, attention, instruction: words || undefined });
  else if (words) ask({ text: words });
}

function list({ hits, milliseconds }) {
  const within = at("hits").contains(document.activeElement) || document.activeElement === at("again");
  at("hits").replaceChildren(...hits.map((hit, index) => card(hit, index + 1)));
  at("hits").removeAttribute("aria-busy");
  at("status").textContent = `${count(hits.length, "picture")} of ${model.index.size.toLocaleString("en")} · ${milliseconds} ms`;
  at("hint").textContent = "Scores are cosine similarities. Choose a neighbour to search with it.";
  if (within) at("hits").querySelector("button")?.focus({ preventScroll: true });
}

function card(hit, rank) {
  const item = at("card").content.cloneNode(true);
  const part = (name) => item.querySelector(`.${name}`);
  part("label").textContent = hit.label || hit.id;
  part("rank").textContent = rank ?? "";
  part("score").textContent = rank ? hit.score.toFixed(3).replace("-", "−") : "";
  part("bar").hidden = !rank;
  part("bar").style.setProperty("--part", Math.min(Math.max(hit.score, 0), 1));
  part("hit").title = `Search with ${hit.id}`;
  part("hit").addEventListener("click", () => ask(hit));
  showPicture(part("thumbnail"), hit.thumbnail);
  return item;
}

// Arrow keys go through the neighbours as they lie on the page.
function step(event) {
  const buttons = [...at("hits").querySelectorAll("button")];
  const columns = getComputedStyle(at("hits")).gridTemplateColumns.split(" ").length;
  const here = buttons.indexOf(document.activeElement);
  const places = { ArrowLeft: here - 1, ArrowRight: here + 1, ArrowUp: here - columns, ArrowDown: here + columns };
  const next = { ...places, Home: 0, End: buttons.length - 1 }[event.key];
  if (here < 0 || next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  buttons[next]?.focus();
}

// ---- attention

async function look() {
  looking.abort();
  looking = new AbortController();
  const { signal } = looking;
  const query = shown;
  at("attention").hidden = !model.attention;
  const wanted = model.attention && at("look").checked;
  overlay(wanted ? query.attention : null);
  if (!wanted || query.attention) return;
  at("look-status").textContent = "Looking…";
  try {
    const file = query.file ?? (await blob(query.thumbnail, signal));
    query.attention = await post("attention", { file }, signal);
  } catch (error) {
    if (error.name !== "AbortError") lookFailed(error);
    return;
  }
  overlay(query.attention);
}

// Even attention is said and not drawn: one colour all over would look like a finding.
function overlay(attention) {
  const drawn = Boolean(attention) && !isEven(attention);
  at("picture").classList.toggle("veiled", drawn);
  at("heat").hidden = at("scale").hidden = !drawn;
  at("look-status").classList.toggle("hidden", drawn);
  at("look-status").textContent = attention ? describe(attention) : "";
  if (!drawn) return;
  draw(at("heat"), attention);
  at("heat").setAttribute("aria-label", describe(attention));
  at("most").textContent = `${top(attention).toFixed(1)} × the mean`;
}

// ---- trouble

// Without an index the search says nothing more, so that a refused picture is said here as anything else.
function lookFailed(error) {
  at("look-status").textContent = "";
  if (!model.index?.size || error.status === 401) return trouble(error, look);
  const { title, text } = wordsFor(error);
  at("look-status").textContent = `${title}. ${text}`;
}

function trouble(error, again) {
  if (!(error instanceof Refusal)) throw error;
  say(wordsFor(error), again);
}

function say(words, again = null) {
  retry = again;
  at("trouble-title").textContent = words.title;
  at("trouble-text").textContent = words.text;
  at("token-form").hidden = !words.token;
  at("again").hidden = !(again && words.again);
  at("trouble").hidden = false;
  at("hint").hidden = true;
  if (words.token) at("token").focus();
}

function clearTrouble() {
  at("trouble").hidden = true;
  at("hint").hidden = false;
}

function describeWith(list, values) {
  const pairs = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  list.replaceChildren(...pairs.map(([name, value]) => {
    const [row, term, said] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    term.textContent = name.replaceAll("_", " ");
    said.textContent = typeof value === "object" ? JSON.stringify(value) : String(value);
    row.append(term, said);
    return row;
  }));
}

// ---- ways for a picture to come

// `transfer` comes with a drop or a paste. Says whether it held anything to search with.
function take(transfer) {
  const file = [...transfer.files][0];
  if (file && model) ask({ file });
  else if (!file && transfer.types.length) say(NO_PICTURE);
}

function mark(event) {
  event.preventDefault();
  at("picture").classList.toggle("over", event.type === "dragover");
}

document.addEventListener("dragover", mark);
document.addEventListener("dragleave", mark);
document.addEventListener("drop", (event) => {
  mark(event);
  take(event.dataTransfer);
});
document.addEventListener("paste", (event) => {
  if (!event.target.closest?.("input, textarea")) take(event.clipboardData);
});
at("file").addEventListener("change", ({ target }) => {
  if (target.files.length) take({ files: [...target.files], types: [] });
  target.value = ""; // so that choosing the same file again counts as a change
});
at("shown").addEventListener("load", () => seen(true));
at("shown").addEventListener("error", () => seen(false));
at("look").addEventListener("change", look);
at("count").addEventListener("change", () => shown && search());
at("hits").addEventListener("keydown", step);
at("again").addEventListener("click", () => retry());
at("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  compose(at("instruction").value.trim());
});
at("instruction").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("compose").requestSubmit();
});
at("without").addEventListener("click", () => {
  compose("");
  at("instruction").focus();
});
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(at("token").value);
  at("token").value = "";
  retry();
});
addEventListener("popstate", arrive);
at("details").open = matchMedia("(min-width: 641px)").matches;
start();
