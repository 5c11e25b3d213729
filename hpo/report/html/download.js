// The table of trials as a file: made of the data that the page has, with no server.
function records() {
  const { params, standing, membership, seed, fidelity, cost, said } = DATA.details;
  const metrics = Object.keys(DATA.columns).filter((name) => !DATA.numeric.includes(name));
  const setting = (name, trial, index) => (DATA.numeric.includes(name) ? value(name, trial) : params[name][index]);
  return DATA.trials.map((trial, index) => ({
    trial, label: DATA.labels[index], standing: standing[index], on_the_front: membership[index], seed: seed[index], fidelity: fidelity[index],
    ...Object.fromEntries(Object.keys(params).map((name) => [`params.${name}`, setting(name, trial, index)])),
    ...Object.fromEntries(metrics.map((name) => [`metrics.${name}`, value(name, trial)])),
    ...Object.fromEntries(Object.keys(cost).map((name) => [`cost.${name}`, cost[name][index]])),
    notes: (said[index] ?? []).join("; "),
  }));
}

// No spreadsheet takes a text for a formula; numbers stay numbers.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const inert = /^[=+\-@\t\n\r]/.test(value) && Number.isNaN(Number(value)) ? "'" + value : value;
  return /[",\n\r]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}

function asCsv(rows) {
  const names = Object.keys(rows[0] ?? {});
  const lines = [names, ...rows.map((row) => names.map((name) => row[name]))];
  return lines.map((line) => line.map(csvCell).join(",")).join("\n") + "\n";
}

function save(text, type, ending) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: `${DATA.name.replace(/[^\w.-]/g, "_")}.${ending}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

document.getElementById("as-csv").addEventListener("click", () => save(asCsv(records()), "text/csv", "csv"));
document.getElementById("as-json").addEventListener("click", () => save(JSON.stringify(records(), null, 1), "application/json", "json"));
