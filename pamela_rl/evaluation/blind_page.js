const test = JSON.parse(find("data").textContent);
const shelf = `blind-test-${test.page}`;
const images = [...document.querySelectorAll("#pair img")];
const answers = {}; // token to "left", "right" or "tie"
let begun = false;
let at = 0; // index of the current pair; past the last one at the end
let ready = false; // both images are loaded
let turn = 0; // counts pairs shown, so that a slow picture of an earlier one is ignored

function recall() {
  const kept = readShelf(shelf);
  find("unkept").hidden = kept !== null;
  for (const [token] of test.pairs)
    if (["left", "right", "tie"].includes(kept?.[token])) answers[token] = kept[token];
}

function keep() {
  find("saved").textContent = writeShelf(shelf, answers)
    ? ""
    : "Not remembered by this browser: save before you close the page.";
}

function firstOpen() {
  const place = test.pairs.findIndex(([token]) => !(token in answers));
  return place < 0 ? test.pairs.length : place;
}

async function load(place) {
  const [, , ...numbers] = test.pairs[place];
  return Promise.all(
    numbers.map(async (number) => {
      const image = new Image();
      image.src = test.images[number];
      await image.decode().catch(() => {});
      return image;
    }),
  );
}

async function show() {
  const ended = at >= test.pairs.length;
  find("start").hidden = begun;
  find("ask").hidden = !begun || ended;
  find("end").hidden = !begun || !ended;
  document.querySelector("footer").hidden = !begun;
  find("save").classList.toggle("main", ended);
  if (begun && ended) find("thanks").focus();
  if (!begun || ended) return;
  const mine = ++turn;
  ready = false;
  find("pair").classList.add("waiting");
  const [token, prompt] = test.pairs[at];
  find("place").textContent = `${at + 1} of ${test.pairs.length}`;
  find("progress").max = test.pairs.length;
  find("progress").value = Object.keys(answers).length;
  find("prompt").textContent = prompt;
  find("back").disabled = at === 0;
  for (const button of document.querySelectorAll("[data-choice]"))
    button.setAttribute("aria-pressed", String(answers[token] === button.dataset.choice));
  const loaded = await load(at);
  if (mine !== turn) return;
  loaded.forEach((image, side) => {
    images[side].src = image.src;
    images[side].alt = `${side ? "Right" : "Left"} picture: ${prompt}`;
    images[side].classList.toggle("small", image.naturalWidth <= 256);
  });
  await Promise.all(images.map((image) => image.decode().catch(() => {})));
  if (mine !== turn) return;
  find("pair").classList.remove("waiting");
  find("spoken").textContent = `Pair ${at + 1} of ${test.pairs.length}: ${prompt}`;
  ready = true;
  if (at + 1 < test.pairs.length) load(at + 1); // the next one comes without a wait
}

function choose(choice) {
  if (!begun || !ready || at >= test.pairs.length) return;
  answers[test.pairs[at][0]] = choice;
  keep();
  at = firstOpen();
  show();
}

function back() {
  if (!begun || at === 0) return;
  at -= 1;
  show();
}

function save() {
  const file = find("file").textContent;
  download(file, "application/json", JSON.stringify({ page: test.page, choices: answers }, null, 1));
  find("saved").textContent = `${Object.keys(answers).length} of ${test.pairs.length} saved as ${file}.`;
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !begun) return;
  const choice = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" }[event.key];
  if (!choice && event.key !== "Backspace") return;
  event.preventDefault();
  if (choice) choose(choice);
  else back();
});
for (const button of document.querySelectorAll("[data-choice]"))
  button.addEventListener("click", (event) => event.detail < 2 && choose(button.dataset.choice)); // a double click is one
find("begin").addEventListener("click", () => {
  begun = true;
  show();
});
find("back").addEventListener("click", back);
find("again").addEventListener("click", back);
find("save").addEventListener("click", save);

find("file").textContent = `choices-${test.name}.json`;
recall();
begun = Object.keys(answers).length > 0;
at = firstOpen();
show();
if (!begun) find("begin").focus();
