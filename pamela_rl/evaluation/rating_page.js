const data = JSON.parse(find("data").textContent);
const { image: imagePlace, prompt: promptPlace, rating: ratingPlace } = data.places;
const range = (low, high) => Array.from({ length: high - low + 1 }, (_, step) => low + step);
const scales = {
  "1 to 5": range(1, 5),
  "1 to 7": range(1, 7),
  "1 to 10": range(1, 10),
  "dislike or like (0, 1)": [0, 1],
};
const SKIPPED = "skip";
const answers = {}; // token to a rating, or SKIPPED
const inTable = {}; // token to the rating that the table had when this page was made
let scale = "1 to 5";
let begun = false;
let at = 0; // place in data.shown; past the last one at the end
let ready = false; // the image is on the screen
let pressed = -Infinity; // when a button was last clicked, ms
let turn = 0; // counts images shown, so that a slow one of before is ignored

const token = (place) => data.shown[place][2];
const cell = (place, column) => (column === null ? "" : data.rows[data.shown[place][0]][column]);
const isRated = (place) => answers[token(place)] !== undefined && answers[token(place)] !== SKIPPED;
const numRated = () => data.shown.filter((_, place) => isRated(place)).length;
const numSkipped = () => data.shown.filter((_, place) => answers[token(place)] === SKIPPED).length;
const number = (text) => (text.trim() === "" ? NaN : Number(text.trim().replace(",", ".")));
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function recall() {
  const kept = readShelf(data.shelf);
  find("unkept").hidden = kept !== null;
  const before = kept?.answers ?? {};
  let differing = 0;
  data.shown.forEach(([row, , name]) => {
    const value = number(data.rows[row][ratingPlace]);
    if (!Number.isNaN(value)) answers[name] = inTable[name] = value;
    if (before[name] === SKIPPED ? !(name in answers) : Number.isFinite(before[name])) {
      if (name in inTable && inTable[name] !== before[name]) differing += 1;
      answers[name] = before[name];
    }
  });
  scale = chosenScale(kept?.scale);
  if (differing)
    find("saved").textContent =
      `${plural(differing, "rating")} given on this page differ from those in ratings.csv; load that file to take its own.`;
}

function chosenScale(remembered) {
  const given = Object.values(answers).filter((value) => value !== SKIPPED);
  const fits = (name) => given.every((value) => value >= scales[name][0] && value <= scales[name].at(-1));
  if (remembered in scales && fits(remembered)) return remembered;
  return Object.keys(scales).find(fits) ?? "1 to 10";
}

function keep() {
  find("saved").textContent = writeShelf(data.shelf, { scale, answers })
    ? ""
    : "Not remembered by this browser: save before you close the page.";
}

function firstOpen(from = 0) {
  const open = data.shown.map((_, place) => place).filter((place) => !(token(place) in answers));
  return open.find((place) => place >= from) ?? open[0] ?? data.shown.length;
}

function labels(values) {
  if (values.length === 2) return ["dislike", "like"];
  return values.map((_, step) => (step === 0 ? "worst" : step === values.length - 1 ? "best" : ""));
}

function makeButtons() {
  const values = scales[scale];
  const texts = labels(values);
  find("ratings").replaceChildren(
    ...values.map((value, step) => {
      const button = document.createElement("button");
      const small = document.createElement("small");
      button.dataset.rating = value;
      button.setAttribute("aria-label", `Rate ${value}${texts[step] ? `, ${texts[step]}` : ""}`);
      button.setAttribute("aria-keyshortcuts", String(value % 10));
      small.textContent = texts[step];
      button.append(String(value), small);
      button.addEventListener("click", (event) => isSingle(event) && rate(value));
      return button;
    }),
  );
  find("ratings").classList.toggle("many", values.length > 7);
  const last = values.at(-1);
  find("keys").textContent =
    `Keys: ${values[0]} to ${Math.min(last, 9)}${last === 10 ? ", 0 is 10" : ""}; → skips, ← goes back.`;
}

function describeStart() {
  const rated = numRated();
  find("count").textContent =
    `${plural(data.shown.length, "image")}${rated ? `, ${rated} of them rated already` : ""}.`;
  find("scale").value = scale;
  find("scale").disabled = rated > 0;
  find("clear").disabled = rated === 0;
  find("fixed").hidden = rated === 0;
  find("begin").disabled = data.shown.length === 0;
  find("begin").textContent = rated ? "Go on" : "Begin";
}

function describeEnd() {
  const [rated, skipped] = [numRated(), numSkipped()];
  find("thanks").textContent = skipped ? "You have been through all images." : "All images are rated.";
  find("todo").textContent = `${plural(rated, "image")} rated, ${skipped} skipped. Next:`;
  find("skipped").hidden = skipped === 0;
  find("target").textContent = data.target;
  const values = scales[scale];
  const ends = `'[${values[0]}, ${values.at(-1)}]'`;
  find("command").textContent = data.command + (scale === "1 to 5" ? "" : ` --source.scale ${ends}`);
}

async function show() {
  const ended = at >= data.shown.length;
  find("start").hidden = begun;
  find("ask").hidden = !begun || ended;
  find("end").hidden = !begun || !ended;
  find("save").classList.toggle("main", begun && ended);
  describeStart();
  if (!begun) return;
  if (ended) {
    describeEnd();
    find("thanks").focus();
    return;
  }
  const mine = ++turn;
  ready = false;
  const answer = answers[token(at)];
  const [prompt, file] = [cell(at, promptPlace), cell(at, imagePlace)];
  find("place").textContent = `Image ${at + 1} of ${data.shown.length} · ${numRated()} rated`;
  find("progress").max = data.shown.length;
  find("progress").value = numRated() + numSkipped();
  find("prompt").textContent = prompt || "How much do you like this image?";
  find("file").textContent = answer === SKIPPED ? `${file}, skipped` : file;
  find("back").disabled = at === 0;
  for (const button of find("ratings").children)
    button.setAttribute("aria-pressed", String(answer === Number(button.dataset.rating)));
  const image = new Image();
  const loading = new Promise((done) => {
    image.onload = () => done(true);
    image.onerror = () => done(false);
  });
  image.src = data.shown[at][1];
  const loaded = await loading;
  if (mine !== turn) return;
  find("broken").hidden = loaded;
  find("shown").hidden = !loaded;
  find("shown").src = image.src;
  find("shown").alt = prompt || file;
  find("shown").classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 256);
  ready = true;
  find("spoken").textContent = `Image ${at + 1} of ${data.shown.length}: ${prompt || file}`;
  if (at + 1 < data.shown.length) new Image().src = data.shown[at + 1][1]; // the next one comes without a wait
}

function isSingle(event) {
  // a double click is one, or it would rate the next image too
  const single = event.timeStamp - pressed > 300;
  if (single) pressed = event.timeStamp;
  return single;
}

function rate(value) {
  if (!begun || !ready || at >= data.shown.length) return;
  answers[token(at)] = value;
  keep();
  at = firstOpen(at);
  show();
}

function skip() {
  if (!begun || !ready || at >= data.shown.length) return;
  if (token(at) in answers) at += 1; // looks through what is rated
  else {
    answers[token(at)] = SKIPPED;
    keep();
    at = firstOpen(at);
  }
  show();
}

function back() {
  if (!begun || at === 0) return;
  at -= 1;
  show();
}

function clear() {
  if (!confirm(`Remove ${plural(numRated(), "rating")} from this page? The file ratings.csv stays as it is.`)) return;
  for (const name of Object.keys(answers)) delete answers[name];
  keep();
  begun = false;
  at = 0;
  show();
}

function quoted(text) {
  return /["\r\n]/.test(text) || text.includes(data.delimiter) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save() {
  const rows = data.rows.map((row) => [...row]);
  data.shown.forEach(([row], place) => {
    const before = number(rows[row][ratingPlace]);
    if (isRated(place) && answers[token(place)] !== before) rows[row][ratingPlace] = String(answers[token(place)]);
    else if (!isRated(place) && !Number.isNaN(before)) rows[row][ratingPlace] = ""; // other words stay as they are
  });
  const text = [data.columns, ...rows].map((row) => `${row.map(quoted).join(data.delimiter)}\n`).join("");
  download("ratings.csv", "text/csv", /[^\x00-\x7f]/.test(text) ? `\ufeff${text}` : text); // the mark is for Excel
  find("saved").textContent =
    `${numRated()} of ${plural(data.shown.length, "rating")} saved as ratings.csv; put it in the place of ${data.target}.`;
}

function parse(text) {
  const header = text.split("\n", 1)[0];
  const count = (sign) => header.split(sign).length;
  const delimiter = [",", ";", "\t"].reduce((best, sign) => (count(sign) > count(best) ? sign : best));
  const [rows, inside] = [[[""]], { quotes: false }];
  for (let place = 0; place < text.length; place += 1) {
    const [sign, row] = [text[place], rows.at(-1)];
    if (inside.quotes && sign === '"' && text[place + 1] === '"') {
      row[row.length - 1] += '"';
      place += 1;
    } else if (sign === '"') inside.quotes = !inside.quotes;
    else if (inside.quotes) row[row.length - 1] += sign;
    else if (sign === delimiter) row.push("");
    else if (sign === "\n") rows.push([""]);
    else if (sign !== "\r") row[row.length - 1] += sign;
  }
  return rows.filter((row) => row.some((text) => text.trim()));
}

async function load() {
  const [file] = find("table").files;
  if (!file) return;
  const [header = [], ...rows] = parse((await file.text()).replace(/^\ufeff/, ""));
  find("table").value = "";
  const names = header.map((name) => name.trim().toLowerCase());
  const [image, rating] = [names.indexOf("image"), names.indexOf("rating")];
  if (image < 0 || rating < 0) {
    find("saved").textContent = `${file.name} has no columns image and rating; choose a table that this page saved.`;
    return;
  }
  const given = new Map(rows.map((row) => [row[image].trim(), number(row[rating] ?? "")]));
  let taken = 0;
  data.shown.forEach((_, place) => {
    const value = given.get(cell(place, imagePlace).trim());
    if (value === undefined || Number.isNaN(value)) return;
    answers[token(place)] = value;
    taken += 1;
  });
  scale = chosenScale(scale);
  makeButtons();
  keep();
  at = firstOpen();
  show();
  find("saved").textContent = `${plural(taken, "rating")} taken from ${file.name}.`;
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !begun) return;
  // the key's place first: on a French keyboard digits need the shift key; a keypad gives digits also without NumLock
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code)?.[1] ?? /^\d$/.exec(event.key)?.[0];
  const values = scales[scale];
  const value = digit === "0" && values.includes(10) ? 10 : Number(digit);
  if (digit !== undefined && values.includes(value)) rate(value);
  else if (event.key === "ArrowRight") skip();
  else if (event.key === "ArrowLeft" || event.key === "Backspace") back();
  else return;
  event.preventDefault();
});
find("scale").append(...Object.keys(scales).map((name) => new Option(name, name)));
find("scale").addEventListener("change", () => {
  scale = find("scale").value;
  makeButtons();
});
find("begin").addEventListener("click", () => {
  begun = true;
  at = firstOpen();
  show();
});
find("skipped").addEventListener("click", () => {
  for (const [name, value] of Object.entries(answers)) if (value === SKIPPED) delete answers[name];
  at = firstOpen();
  show();
});
find("back").addEventListener("click", back);
find("again").addEventListener("click", back);
find("skip").addEventListener("click", (event) => isSingle(event) && skip());
find("save").addEventListener("click", save);
find("open").addEventListener("click", () => find("table").click());
find("table").addEventListener("change", load);
find("clear").addEventListener("click", clear);

recall();
makeButtons();
show();
find("begin").focus();
