"use strict";
// The data, and one selection of trials for the whole page: every view reads it and may change it.
const DATA = JSON.parse(document.getElementById("data").textContent);
const place = new Map(DATA.trials.map((trial, index) => [trial, index]));
const selected = new Set(DATA.selected);
const listeners = [];
const KEPT = "selection of " + DATA.name;

// Colours and dashes are handed out to the first trials selected and kept while they stay so.
// Baselines have dashes of their own.
const baselines = new Set(DATA.baselines);
const looksOf = (dashes, baseline) => dashes.flatMap((dash) => DATA.styles.colours.map((color) => ({ color, dash, baseline })));
const LOOKS = [...looksOf(DATA.styles.dashes, false), ...looksOf(DATA.styles.baseline_dashes, true)];
const DASHES = { dash: "7 4", dot: "2 3", dashdot: "7 3 2 3" };
const slots = new Array(LOOKS.length).fill(null);

function giveLooks() {
  slots.forEach((trial, slot) => { if (!selected.has(trial)) slots[slot] = null; });
  for (const trial of selected) {
    if (slots.includes(trial)) continue;
    const free = freeSlot(baselines.has(trial));
    if (free !== undefined) slots[free] = trial;
  }
}

// The first of the free ones whose colours the fewest others have.
function freeSlot(baseline) {
  const used = (color) => slots.filter((trial, slot) => trial !== null && LOOKS[slot].color === color).length;
  const free = [...slots.keys()].filter((slot) => slots[slot] === null && LOOKS[slot].baseline === baseline);
  return free.sort((a, b) => used(LOOKS[a].color) - used(LOOKS[b].color))[0];
}

// Trial -> its look, for those that have one.
function looks() {
  const shown = ({ color, dash }) => ({ color: toned(color), dash });
  return new Map(slots.flatMap((trial, slot) => (trial === null ? [] : [[trial, shown(LOOKS[slot])]])));
}

// On a dark page every colour of a figure has a lighter one, except on paper.
const dark = matchMedia("(prefers-color-scheme: dark)");
let printing = false;

function toned(value) {
  if (!dark.matches || printing) return value;
  if (typeof value === "string") return DATA.styles.dark[value] ?? value;
  if (Array.isArray(value)) return value.map(toned);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, toned(each)]));
}

function tonedTrace(trace) {
  if (!dark.matches || printing) return trace;
  const painted = ["marker", "line", "error_x", "error_y"].filter((key) => trace[key]);
  const made = { ...trace, ...Object.fromEntries(painted.map((key) => [key, toned(trace[key])])) };
  if (made.marker?.colorscale) {
    const colours = DATA.styles.scale_dark;
    made.marker.colorscale = colours.map((colour, index) => [index / (colours.length - 1), colour]);
  }
  return made;
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

// A dotted name that may break after a dot or underscore.
function breakable(name) {
  return name.split(/(?<=[._])/).flatMap((part, index) => (index ? [document.createElement("wbr"), part] : [part]));
}

// An element with text and children, never markup.
function element(tag, { text, children = [], ...properties } = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}
