"use strict";
// The data, and one selection of trials for the whole page: every view reads it and may change it.
const DATA = JSON.parse(document.getElementById("data").textContent);
const place = new Map(DATA.trials.map((trial, index) => [trial, index]));
const selected = new Set(DATA.selected);
const listeners = [];
const KEPT = "selection of " + DATA.name;

// Colours and dashes are handed out to the first trials selected and kept while they stay so.
const LOOKS = DATA.styles.dashes.flatMap((dash) => DATA.styles.colours.map((color) => ({ color, dash })));
const DASHES = { dash: "7 4", dot: "2 3", dashdot: "7 3 2 3" };
const slots = new Array(LOOKS.length).fill(null);

function giveLooks() {
  slots.forEach((trial, slot) => { if (!selected.has(trial)) slots[slot] = null; });
  for (const trial of selected) {
    if (slots.includes(trial)) continue;
    const free = slots.indexOf(null);
    if (free < 0) return;
    slots[free] = trial;
  }
}

// Trial -> its look, for those that have one.
function looks() {
  return new Map(slots.flatMap((trial, slot) => (trial === null ? [] : [[trial, LOOKS[slot]]])));
}

function select(numbers) {
  selected.clear();
  numbers.forEach((number) => selected.add(number));
  announce();
}

function toggle(number, on = !selected.has(number)) {
  selected[on ? "add" : "delete"](number);
  announce();
}

function announce() {
  giveLooks();
  try {
    sessionStorage.setItem(KEPT, JSON.stringify([...selected]));
  } catch { /* A browser may keep nothing for pages from disk. */ }
  listeners.forEach((listener) => listener());
}

// A live page reloads itself: what was selected stays so.
function restore() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    if (DATA.refresh_s !== null && kept) select(kept.filter((number) => place.has(number)));
  } catch { /* as above */ }
}

function value(name, trial) {
  return DATA.columns[name]?.[place.get(trial)] ?? null;
}

function label(trial) {
  return DATA.labels[place.get(trial)];
}

// An element with text and children, never markup.
function element(tag, { text, children = [], ...properties } = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}
