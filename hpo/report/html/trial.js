// A trial's page: everything known about it.
const dialog = document.getElementById("trial");

function shortNumber(number, digits = 4) {
  if (number === null || number === undefined) return "n/a";
  for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6]]) {
    if (Math.abs(number) >= size) return Number((number / size).toPrecision(digits)) + unit;
  }
  const short = Number(number.toPrecision(digits));
  return short !== 0 && Math.abs(short) < 1e-4 ? short.toExponential() : String(short);
}

// Name and value side by side; a third entry says what the name means.
function definitions(title, pairs) {
  const known = pairs.filter(([, text]) => text !== null && text !== "n/a");
  if (!known.length) return [];
  const lines = known.map(([name, text, meaning]) => {
    const head = element("th", { scope: "row", children: breakable(name) });
    const rows = [element("tr", { children: [head, element("td", { text })] })];
    if (meaning) rows.push(element("tr", { children: [element("td", { className: "meaning", colSpan: 2, text: meaning })] }));
    return element("tbody", { children: rows });
  });
  return [element("div", { children: [element("h3", { text: title }), element("table", { className: "facts", children: lines })] })];
}

// Head -> end of a task's metrics: of scores, or of the loss on answers where the study is read by it.
function taskColumns() {
  const [before, after] = DATA.tasks.ends;
  return { before, after, ...(after === "after" ? { gain: "gain", rate: "lr", chance: "chance" } : { rate: "lr" }) };
}

// A row a task: score or loss before and after fine-tuning, and the learning rate chosen for it.
function taskTable(trial) {
  const columns = taskColumns();
  const tasks = DATA.tasks.names.filter((task) => value(`task.${task}.${columns.after}`, trial) !== null);
  if (!tasks.length) return [];
  const heads = ["task", ...Object.keys(columns)].map((text, index) => element("th", { text, className: index ? "number" : "" }));
  const rows = tasks.map((task) => element("tr", { children: [
    element("th", { scope: "row", children: breakable(task) }),
    ...Object.values(columns).map((key) => element("td", { className: "number", text: measuredText(`task.${task}.${key}`, trial) })),
  ] }));
  const parts = [element("thead", { children: [element("tr", { children: heads })] }), element("tbody", { children: rows })];
  return [element("div", { className: "scroll", children: [element("table", { className: "tasks", children: parts })] })];
}

// The command that writes the trial's weights, and a button that copies it.
function exportLine(trial, index) {
  if (!DATA.details.done[index]) return [];
  const command = `${DATA.export} ${trial} --to trial-${trial}`;
  const button = element("button", { text: "copy", onclick: async () => {
    await navigator.clipboard?.writeText(command);
    button.textContent = "copied";
  } });
  return [element("p", { className: "command", children: [element("code", { text: command }), button] })];
}

function measuredText(name, trial) {
  const error = value(name + "_sem", trial);
  const unit = DATA.units[name] ? " " + DATA.units[name] : "";
  return value(name, trial) === null ? "n/a" : shortNumber(value(name, trial)) + (error ? " ±\u00a0" + shortNumber(error, 2) : "") + unit;
}

function facts(trial) {
  const index = place.get(trial);
  const { params, cost, seed, fidelity, standing, membership, rungs } = DATA.details;
  const metrics = Object.keys(DATA.titles).filter((name) => !(name in params) && value(name, trial) !== null);
  const of = (prefix) => metrics.filter((name) => name.startsWith(prefix)).map((name) => [name.slice(prefix.length), measuredText(name, trial), DATA.meanings[name]]);
  const plain = metrics.filter((name) => !/^(task|probe)\./.test(name)).map((name) => [name, measuredText(name, trial), DATA.meanings[name]]);
  return [
    ...definitions("Trial", [["standing", standing[index]], ["on the front", membership[index]], ["seed", String(seed[index])], ["share of the full length", shortNumber(fidelity[index])]]),
    ...definitions("Parameters", Object.entries(params).map(([name, column]) => [name, column[index]])),
    ...definitions("Metrics", plain),
    ...definitions("Cost", Object.entries(cost).map(([name, column]) => [name, shortNumber(column[index])])),
    ...definitions("Probes", of("probe.")),
    ...definitions("More of the tasks", of("task.").filter(([name]) => !Object.values(taskColumns()).includes(name.split(".").pop()))),
    ...(rungs[index] ?? []).flatMap(([share, found]) => definitions(`At ${shortNumber(share)} of the length`, Object.entries(found).map(([name, each]) => [name, shortNumber(each)]))),
  ];
}

function openTrial(trial) {
  if (!place.has(trial)) return;
  const index = place.get(trial);
  const box = element("input", { type: "checkbox", checked: selected.has(trial), onchange: () => toggle(trial, box.checked) });
  const step = (text, name, to) => element("button", { text, ariaLabel: name, disabled: !(to in DATA.trials), onclick: () => openTrial(DATA.trials[to]) });
  const head = element("div", { className: "tools head", children: [
    element("h2", { text: label(trial) }),
    element("label", { children: [box, " selected"] }),
    step("‹", "previous trial", index - 1), step("›", "next trial", index + 1),
    element("button", { text: "✕", ariaLabel: "close", onclick: () => dialog.close() }),
  ] });
  const said = (DATA.details.said[index] ?? []).map((text) => element("li", { text }));
  const figures = DATA.curves.map(({ name, of }, number) => ({ name, number, there: of[index] !== null })).filter(({ there }) => there);
  const cells = figures.map(({ name, number }) => {
    const figure = element("div", { className: "figure small" });
    figure.dataset.curve = number;
    return element("div", { children: [element("h3", { children: breakable(name) }), figure] });
  });
  dialog.replaceChildren(head, element("ul", { children: said }), ...exportLine(trial, index), ...taskTable(trial), element("div", { className: "facts-grid", children: facts(trial) }), element("div", { className: "grid", children: cells }));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  drawInTurn([...dialog.querySelectorAll(".figure")], trial);
}

// One a frame, while this trial's page is open.
function drawInTurn([first, ...rest], trial) {
  if (!first) return;
  setTimeout(() => {
    if (!window.Plotly || !first.isConnected || !dialog.open) return;
    drawOne(first, trial);
    drawInTurn(rest, trial);
  });
}

function drawOne(box, trial) {
  const palette = colours();
  const { steps, of, values } = DATA.curves[box.dataset.curve];
  const index = place.get(trial);
  const [x, y] = [steps[of[index]], values[index]];
  const line = { color: toned(DATA.styles.colours[0]), width: 2 };
  const layout = themed(curveLayout(box.dataset.curve), palette, box.clientHeight);
  Plotly.react(box, [{ x, y, mode: x.length < 3 ? "lines+markers" : "lines", line }], layout, { ...CONFIG, displayModeBar: false });
}

dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
document.addEventListener("click", ({ target }) => {
  const opener = target.closest("[data-open]");
  if (opener) openTrial(Number(opener.dataset.open));
});
