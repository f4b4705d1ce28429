// What the page says when something goes wrong: a title, a sentence, and whether trying again may help.

import { hasToken } from "./api.js";

export const NO_INDEX = {
  title: "No index to search",
  text: "This server has a model but no index. Build one with “saga index build”, then start the server with “--index”.",
};
export const UNTIL_THEN = " Until then you can see where the encoder looks.";
export const EMPTY_INDEX = { title: "The index is empty", text: "There is no picture in it to find. Add some with “saga index add”." };
export const NO_PICTURE = { title: "That is no picture file", text: "Save the picture first, then drop or choose the file." };

export function wordsFor({ status, message, param, wait }) {
  const said = sentence(message);
  if (status === 0) return { title: "No answer from the server", text: "It may have stopped, or the network is gone.", again: true };
  if (status === 401 || status === 403) {
    return { title: "This server asks for a token", text: hasToken() ? "This one is not right." : "Enter the one you were given.", token: true };
  }
  if (status === 404) return { title: "Not found", text: said || "The server has nothing by this name." };
  if (status === 429) return { title: "The server is busy", text: `Too many requests at once. ${pause(wait)}`, again: true };
  if (status === 408 || status === 504) return { title: "It took too long", text: said || "The server gave up waiting.", again: true };
  if (status === 413) return { title: "The picture is too large", text: said || "Try a smaller one." };
  if (status === 503) return { title: "The server is not ready", text: said || "The model may still be loading.", again: true };
  if (status >= 500) return { title: "The server failed", text: said || `It answered ${status}.`, again: true };
  return { title: `The ${REFUSED[param] ?? "request"} was refused`, text: said || `The server answered ${status}.` };
}

const REFUSED = { file: "picture", instruction: "instruction", text: "text" };
const pause = (wait) => (wait ? `Try again in ${count(Math.ceil(wait), "second")}.` : "Try again in a moment.");
const sentence = (text) => text && text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

export const count = (number, thing) => `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;
