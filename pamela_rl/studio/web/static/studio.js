"use strict";
const find = (id) => document.getElementById(id);
const words = JSON.parse(find("words").textContent);
const csrf = document.querySelector('meta[name="csrf"]').content;
const { page, person } = document.body.dataset;

// words, elements, requests

function say(key, values = {}) {
  let found = key.split(".").reduce((table, part) => table[part], words);
  if (typeof found === "object") found = found[values.n === 1 ? "one" : "other"];
  return found.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

const two = (value) => (Math.round(value * 100) / 100).toFixed(2).replace(/^(-?)0\./, "$1.");
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "±") + two(Math.abs(value));
const percent = (share) => `${Math.round(100 * share)} %`;
const day = (time) => new Date(/Z|[+-]\d\d:\d\d$/.test(time) ? time : `${time}Z`).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });

function make(name, attributes = {}, ...inside) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...inside.filter((part) => part !== null && part !== undefined));
  return element;
}

function draw(name, attributes, ...inside) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inside);
  return element;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text; // screen readers say again what is set again
}

let telling;
function tell(text) {
  put(find("tell"), text);
  clearTimeout(telling);
  telling = setTimeout(() => put(find("tell"), ""), Math.max(5000, 80 * text.length));
}

class Refusal extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status; // 0 where nothing answered
  }
}

async function api(method, path, body) {
  const form = body instanceof FormData;
  const headers = { Accept: "application/json", "X-CSRF-Token": csrf };
  if (body !== undefined && !form) headers["Content-Type"] = "application/json";
  let reply;
  try {
    reply = await fetch(path, { method, headers, body: body === undefined || form ? body : JSON.stringify(body) });
  } catch {
    throw new Refusal(0, say("common.unreachable"));
  }
  const told = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Refusal(reply.status, told.error ?? say("common.unreachable"));
  return told;
}

function attempt(action) {
  // what a click or a form does: its button rests meanwhile, and a refusal is told
  return async (event) => {
    event?.preventDefault();
    const button = event?.submitter ?? event?.currentTarget;
    if (button instanceof HTMLButtonElement) button.disabled = true;
    try {
      await action(event);
    } catch (error) {
      tell(error.message);
    } finally {
      if (button instanceof HTMLButtonElement) button.disabled = false;
    }
  };
}

const run = (action) => () => void attempt(action)(); // the same for a key

const on = (id, kind, action) => find(id)?.addEventListener(kind, attempt(action));

function recall(shelf, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`studio-${shelf}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function remember(shelf, value) {
  try {
    localStorage.setItem(`studio-${shelf}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

async function watch(ask, every) {
  // asks again and again while the page is looked at; ask says after how many ms, if not as usual
  let wait = every;
  try {
    if (!document.hidden) wait = (await ask()) ?? every;
  } catch (error) {
    tell(error.message);
  }
  setTimeout(() => watch(ask, every), wait);
}

// keys that answer alone; they can be switched off, for people who speak to their computer or touch keys by chance

function listen(keys) {
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !recall("keys", true)) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.target.matches('select, textarea, input:not([type="radio"], [type="checkbox"])')) return;
    if (event.target.matches("input") && event.key.startsWith("Arrow")) return; // they choose there
    const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code)?.[1]; // its place: on a French keyboard digits need shift
    const action = keys[digit ?? event.key.toLowerCase()];
    if (action && action() !== false) event.preventDefault();
  });
}

function switchKeys() {
  for (const box of document.querySelectorAll(".keys-on")) {
    box.checked = recall("keys", true);
    box.addEventListener("change", () => remember("keys", box.checked));
  }
}

let pressed = -Infinity;
function isSingle(event) {
  // a double click is one, or it would answer the next question too
  const single = event.timeStamp - pressed > 300;
  if (single) pressed = event.timeStamp;
  return single;
}

// pictures

const named = (picture) => picture.prompt || say("common.no_prompt");

async function loaded(src) {
  const image = new Image();
  image.src = src;
  const whole = await image.decode().then(
    () => true,
    () => false,
  );
  return { src, whole, small: whole && Math.max(image.naturalWidth, image.naturalHeight) <= 256 };
}

function pixels(image) {
  const look = () => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 128);
  image.addEventListener("load", look);
  if (image.complete) look();
  return image;
}

function thumb(picture) {
  const src = Math.max(picture.width, picture.height) <= 256 ? picture.src : picture.small;
  return pixels(make("img", { src, alt: say("common.picture_of", { prompt: named(picture) }), loading: "lazy" }));
}

// charts

function interval(low, high, value, { from = 0, to = 1, middle = null, kind = "", label }) {
  // a bar from low to high on a track, with a point
  const x = (at) => 8 + (284 * (Math.min(Math.max(at, from), to) - from)) / (to - from);
  const parts = [draw("line", { class: "track", x1: x(from), x2: x(to), y1: 14, y2: 14 })];
  if (middle !== null) parts.push(draw("line", { class: "half", x1: x(middle), x2: x(middle), y1: 2, y2: 26 }));
  parts.push(draw("line", { class: `span ${kind}`, x1: x(low), x2: x(high), y1: 14, y2: 14 }));
  if (value !== null) parts.push(draw("circle", { class: "point", cx: x(value), cy: 14, r: 6 }));
  return draw("svg", { class: "interval", viewBox: "0 0 300 28", role: "img", "aria-label": label }, ...parts);
}

function chart(place, { title, xs, xLabel, lines, band = null, range = null, half = null, form = two }) {
  // lines: [{ name, ys }], null where nothing is known; band: [lows, highs]
  const known = [...lines.flatMap((line) => line.ys), ...(band ? band.flat() : [])].filter((y) => y !== null);
  const [low, high] = range ?? [Math.min(...known) - 0.05, Math.max(...known) + 0.05];
  const width = Math.min(Math.max(place.clientWidth, 280), 640); // its own pixels: text is as large as elsewhere
  const [left, right, top, bottom, height] = [46, 12, 14, 40, 250];
  const [first, last] = [xs[0], xs.at(-1)];
  const x = (at) => left + ((width - left - right) * (at - first)) / (last - first || 1);
  const y = (at) => top + (height - top - bottom) * (1 - (at - low) / (high - low || 1));
  const point = (at, place) => `${x(xs[place]).toFixed(1)},${y(at).toFixed(1)}`;
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  for (let step = 0; step <= 4; step += 1) {
    const at = low + ((high - low) * step) / 4;
    svg.append(draw("line", { class: "rule", x1: left, x2: width - right, y1: y(at), y2: y(at) }));
    svg.append(draw("text", { x: left - 8, y: y(at) + 4, "text-anchor": "end" }, form(at)));
  }
  if (half !== null) svg.append(draw("line", { class: "half", x1: left, x2: width - right, y1: y(half), y2: y(half) }));
  if (band) {
    const corners = [...band[0].map(point), ...band[1].map(point).reverse()];
    svg.append(draw("polygon", { class: "band", points: corners.join(" ") }));
  }
  lines.forEach(({ name, ys }, number) => {
    const points = ys.map((at, place) => (at === null ? null : point(at, place))).filter(Boolean);
    if (points.length > 1) svg.append(draw("polyline", { class: `line${number}`, points: points.join(" ") }));
    else if (points.length) {
      const [cx, cy] = points[0].split(",");
      svg.append(draw("circle", { class: `line${number}`, cx, cy, r: 3 }));
    }
    if (lines.length > 1) {
      const from = left + 8 + number * 130;
      svg.append(draw("polyline", { class: `line${number}`, points: `${from},${top} ${from + 26},${top}` }));
      svg.append(draw("text", { x: from + 34, y: top + 4 }, name));
    }
  });
  svg.append(draw("text", { x: left, y: height - 18, "text-anchor": "middle" }, String(first)));
  svg.append(draw("text", { x: width - right, y: height - 18, "text-anchor": "end" }, String(last)));
  svg.append(draw("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xLabel));
  const columns = [xLabel, ...lines.map((line) => line.name), ...(band ? [say("common.interval")] : [])];
  const rows = xs.map((at, place) => [
    String(at),
    ...lines.map((line) => (line.ys[place] === null ? "–" : form(line.ys[place]))),
    ...(band ? [say("common.range", { low: form(band[0][place]), high: form(band[1][place]) })] : []),
  ]);
  const open = place.querySelector("details")?.open ?? false;
  const told = make("details", { open }, make("summary", {}, say("common.as_table")), table(columns, rows));
  place.replaceChildren(svg, told);
}

function table(columns, rows) {
  const cells = (kind, row) => row.map((text, place) => make(place ? kind : "th", { scope: kind === "th" ? "col" : place ? null : "row" }, text));
  return make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...cells("th", columns))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells("td", row)))),
  );
}

// questions with pictures to choose from, on the pages of rating and of comparing

function swipe(frame, answer) {
  // left and right by how far, down in between, up to skip; what would be said is shown while the finger is down
  let start = null;
  let meant = null;
  const badge = frame.querySelector(".badge");
  const meaning = (dx, dy) => {
    const reach = frame.clientWidth / 2;
    if (Math.max(Math.abs(dx), Math.abs(dy)) < 36) return null;
    if (Math.abs(dy) > Math.abs(dx)) return dy > 0 ? 3 : "skip";
    return dx > 0 ? (dx > 0.62 * reach ? 5 : 4) : dx < -0.62 * reach ? 1 : 2;
  };
  const settle = () => {
    start = meant = null;
    frame.classList.remove("dragged");
    frame.querySelector("img")?.style.removeProperty("transform");
  };
  frame.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    start = [event.clientX, event.clientY];
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [dx, dy] = [event.clientX - start[0], event.clientY - start[1]];
    meant = meaning(dx, dy);
    frame.classList.toggle("dragged", meant !== null);
    if (meant !== null) put(badge, meant === "skip" ? say("rate.skip") : `${meant} · ${words.rate.worth[meant - 1]}`);
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches)
      frame.querySelector("img").style.transform = `translate(${dx}px, ${dy}px)`;
  });
  frame.addEventListener("pointerup", () => {
    const said = meant;
    settle();
    if (said !== null) answer(said);
  });
  frame.addEventListener("pointercancel", settle);
}

function rate() {
  let shown = null; // the question on the screen
  let following = null; // and the one after it
  let ready = false; // its pictures are on the screen
  let turn = 0;
  let sending = false;
  let wait = 1000;
  const shelf = `unsent-${person}`;
  let unsent = recall(shelf, []); // answers that the server has not confirmed, oldest first

  const show = async (question, focus = true) => {
    const mine = ++turn;
    shown = question;
    ready = false;
    find("ask").hidden = !question;
    find("waiting").hidden = Boolean(question);
    if (!question) put(find("waiting-why"), say(unsent.length ? "rate.all_answered" : "common.loading"));
    if (!question) return;
    find("ask").setAttribute("aria-busy", "true");
    const images = await Promise.all(question.pictures.map((picture) => loaded(picture.src)));
    if (mine !== turn) return;
    const single = question.kind === "rating";
    find("scale").hidden = !single;
    find("sides").hidden = question.kind !== "choice";
    put(find("question"), say(`rate.${question.kind}`));
    const prompts = [...new Set(question.pictures.map((picture) => picture.prompt))];
    put(find("prompt"), prompts.length === 1 ? prompts[0] : "");
    find("stage").className = `stage new ${{ rating: "one", choice: "pair", best_of_four: "four" }[question.kind]}`;
    find("stage").replaceChildren(...question.pictures.map((picture, place) => frame(question, picture, place, images[place])));
    find("ask").removeAttribute("aria-busy");
    ready = true;
    const lost = document.activeElement === document.body; // what had the focus went with the question before
    if (focus && lost) find("question").focus({ preventScroll: true });
    put(find("spoken"), say(`rate.shown_${question.kind}`, { prompt: prompts.filter(Boolean).join(" / ") || say("common.no_prompt") }));
    following?.pictures.forEach((picture) => loaded(picture.src)); // they come without a wait
  };

  const frame = (question, picture, place, image) => {
    const prompt = picture.prompt || say("common.no_prompt");
    const inside = image.whole
      ? make("img", { src: image.src, class: image.small ? "small" : null, alt: question.kind === "rating" ? say("common.picture_of", { prompt }) : "" })
      : make("p", { class: "broken" }, say("rate.not_shown"));
    if (question.kind === "rating") {
      const framed = make("div", { class: "frame" }, inside, make("span", { class: "badge", "aria-hidden": "true" }));
      if (image.whole) swipe(framed, (said) => (said === "skip" ? answer("skip") : answer("rating", said)));
      return framed;
    }
    const label = question.kind === "choice" ? say(place ? "rate.choose_right" : "rate.choose_left", { prompt }) : say("rate.choose_place", { n: place + 1, prompt });
    const button = make("button", { type: "button", class: "frame", "aria-label": label, onclick: (event) => isSingle(event) && choose(place) }, inside);
    if (question.kind === "best_of_four") button.append(make("span", { class: "place", "aria-hidden": "true" }, String(place + 1)));
    return button;
  };

  const describe = (progress) => {
    if (!progress) return;
    put(find("line"), progress.line || say("rate.none_yet"));
    find("train-now").hidden = !progress.enough;
    find("see-taste").hidden = !progress.answers;
    const known = progress.known;
    find("known-bar").hidden = !known;
    if (known) {
      const label = say("rate.known_bar", { low: percent(known.low), high: percent(known.high) });
      find("known-bar").replaceChildren(interval(known.low, known.high, known.of ? known.right / known.of : null, { middle: 0.5, label }));
    }
  };

  const adopt = (told, focus = true) => {
    // what the server says now; it is the truth once everything has been sent
    describe(told.progress);
    if (unsent.length) return;
    following = told.next;
    if (told.current?.id !== shown?.id || !told.current) show(told.current, focus);
    else following?.pictures.forEach((picture) => loaded(picture.src));
    if (!told.current) put(find("waiting-why"), told.waiting ?? say("common.loading"));
  };

  const refresh = async (focus = true) => adopt(await api("GET", "/api/questions"), focus);

  const mark = () => {
    const kept = remember(shelf, unsent);
    const late = unsent.length > 0 && wait > 1000;
    find("unsent").hidden = !late;
    put(find("unsent"), late ? `${say("rate.unsent", { n: unsent.length })}${kept ? "" : ` ${say("rate.unkept")}`}` : "");
  };

  const send = async () => {
    if (sending) return;
    sending = true;
    let told = null;
    while (unsent.length) {
      const { id, body } = unsent[0];
      try {
        told = await api("POST", `/api/questions/${id}/answer`, body);
      } catch (error) {
        if ([0, 401, 403, 408, 429].includes(error.status) || error.status >= 500) {
          wait = Math.min(2 * wait, 30000);
          if (error.status === 401 || error.status === 403) tell(error.message);
          setTimeout(send, wait);
          break;
        }
        tell(error.message); // it cannot be stored, now or later: the server says what to ask instead
        told = await api("GET", "/api/questions").catch(() => null);
      }
      unsent.shift();
      if (wait > 1000) tell(say("rate.sent"));
      wait = 1000;
      remember(shelf, unsent);
    }
    sending = false;
    mark();
    if (told) adopt(told);
  };

  const answer = (said, value = null, more = {}) => {
    if (!shown || !ready) return false;
    unsent.push({ id: shown.id, body: { said, value, picture: null, reason: null, ...more } });
    mark();
    const next = following;
    following = null;
    for (const button of document.querySelectorAll("#scale button, #sides button"))
      button.setAttribute("aria-pressed", String(said !== "skip" && button.dataset.value === String(value)));
    setTimeout(() => document.querySelectorAll('#ask [aria-pressed="true"]').forEach((button) => button.removeAttribute("aria-pressed")), 250);
    show(next);
    return send();
  };

  const choose = (place) => {
    if (!shown || !ready || shown.kind === "rating") return false;
    if (place < 0) return answer("choice", -1);
    return place < shown.pictures.length && answer("choice", null, { picture: shown.pictures[place].id });
  };

  const undo = async () => {
    await send();
    if (unsent.length) return;
    const told = await api("POST", "/api/undo");
    tell(say("rate.undone"));
    shown = null;
    adopt(told);
  };

  const leave = () => {
    if (!shown || !ready) return false;
    const several = shown.pictures.length > 1;
    find("leave-which").hidden = !several;
    find("leave-which").replaceChildren(
      make("legend", {}, say("rate.leave_which")),
      ...shown.pictures.map((picture, place) =>
        make("label", {}, make("input", { type: "radio", name: "which", value: picture.id, checked: place === 0 }), Object.assign(thumb(picture), { alt: say("rate.leave_place", { n: place + 1 }) })),
      ),
    );
    find("leaving").showModal();
    return true;
  };

  for (const button of document.querySelectorAll("[data-reason]"))
    button.addEventListener("click", () => {
      const picture = document.querySelector('#leave-which input:checked')?.value ?? shown.pictures[0].id;
      find("leaving").close();
      answer("exclude", null, { picture, reason: button.dataset.reason });
    });
  find("leave-not").addEventListener("click", () => find("leaving").close());
  for (const button of document.querySelectorAll("#scale button"))
    button.addEventListener("click", (event) => isSingle(event) && answer("rating", Number(button.dataset.value)));
  for (const button of document.querySelectorAll("#sides button"))
    button.addEventListener("click", (event) => isSingle(event) && choose(Number(button.dataset.value)));
  find("skip").addEventListener("click", (event) => isSingle(event) && answer("skip"));
  find("cannot").addEventListener("click", (event) => isSingle(event) && answer("cannot_say"));
  find("leave").addEventListener("click", leave);
  on("undo", "click", undo);
  let pointed = false; // the kind was chosen by mouse or finger
  document.querySelector(".kinds").addEventListener("pointerdown", () => (pointed = true));
  document.querySelector(".kinds").addEventListener("keydown", () => (pointed = false));
  for (const button of document.querySelectorAll('input[name="kind"]'))
    button.addEventListener(
      "change",
      attempt(async () => {
        await send();
        await api("PUT", "/api/settings", { kind: button.value });
        shown = null;
        await refresh(false);
        if (pointed) find("question").focus({ preventScroll: true }); // arrows answer, and choose no other kind
      }),
    );
  const side = (place) => () => shown?.kind === "choice" && choose(place);
  const digits = [1, 2, 3, 4, 5].map((digit) => [
    digit,
    () => {
      if (shown?.kind === "rating") return answer("rating", digit);
      return shown?.kind === "best_of_four" && choose(digit - 1);
    },
  ]);
  listen({
    ...Object.fromEntries(digits),
    arrowleft: side(0),
    arrowright: side(1),
    arrowdown: side(-1),
    s: () => answer("skip"),
    c: () => answer("cannot_say"),
    x: leave,
    u: run(undo),
    backspace: run(undo),
  });
  addEventListener("online", send);
  api("GET", "/api/settings").then((settings) => {
    const chosen = document.querySelector(`input[name="kind"][value="${settings.kind}"]`);
    if (chosen) chosen.checked = true;
  }, () => {});
  if (unsent.length) send();
  watch(async () => {
    if (!shown && !sending && !unsent.length) await refresh();
    return shown ? 4000 : 1500;
  }, 3000);
}

// taste

async function taste() {
  const told = await api("GET", "/api/taste");
  const empty = !told.sentence && !told.words.length && !told.curve.length && !told.liked.length;
  find("none").hidden = !empty;
  find("taste").hidden = empty;
  put(find("sentence"), told.sentence ?? "");
  put(find("uncertain"), told.uncertain ?? "");
  find("liked").replaceChildren(...told.liked.map(thumb));
  find("disliked").replaceChildren(...told.disliked.map(thumb));
  find("words-part").hidden = !told.words.length;
  const reach = Math.max(0.5, ...told.words.flatMap((word) => [Math.abs(word.low), Math.abs(word.high)]));
  const strength = (word) => (word.low > 0 ? word.low : word.high < 0 ? -word.high : -1 / (1 + Math.abs(word.effect)));
  const clearest = [...told.words].sort((a, b) => strength(b) - strength(a));
  const list = (count) => {
    const rows = clearest.slice(0, count).sort((a, b) => b.effect - a.effect);
    find("effects").replaceChildren(
      ...rows.map((word) => {
        const kind = word.low > 0 ? "more" : word.high < 0 ? "less" : "unsure";
        const label = `${say("common.between", { value: signed(word.effect), low: signed(word.low), high: signed(word.high) })}: ${say(`taste.${kind}`)}`;
        return make(
          "tr",
          {},
          make("th", { scope: "row" }, word.phrase),
          make("td", { class: "chart" }, interval(word.low, word.high, word.effect, { from: -reach, to: reach, middle: 0, kind, label })),
          make("td", { class: "number" }, signed(word.effect)),
        );
      }),
    );
    find("all-words").hidden = count >= clearest.length;
  };
  list(10);
  on("all-words", "click", () => list(Infinity));
  find("curve-part").hidden = told.curve.length < 2;
  if (told.curve.length < 2) return;
  const column = (name) => told.curve.map((row) => row[name]);
  const drawn = { title: say("taste.curve_title"), xs: column("answers"), xLabel: say("taste.answers"), lines: [{ name: say("taste.right"), ys: column("right") }] };
  chart(find("curve"), { ...drawn, band: [column("low"), column("high")], range: [0, 1], half: 0.5, form: percent });
}

// jobs

const live = (job) => ["waiting", "running", "paused"].includes(job.state);

function left(seconds) {
  if (seconds === null || seconds === undefined) return "";
  return seconds < 90 ? say("common.seconds_left", { n: Math.round(seconds) }) : say("common.minutes_left", { n: Math.round(seconds / 60) });
}

function standing(job) {
  if (job.wish === "pause" && job.state === "running") return say("job.pausing");
  if (job.wish === "cancel" && live(job)) return say("job.cancelling");
  if (job.state === "waiting" && job.place > 1) return say("job.waiting_place", { n: job.place });
  return say(`job.${job.state}`);
}

function sure() {
  return new Promise((answer) => {
    const dialog = find("sure");
    const close = (said) => () => {
      dialog.onclose = null;
      dialog.close();
      answer(said);
    };
    find("sure-yes").onclick = close(true);
    find("sure-no").onclick = close(false);
    dialog.onclose = () => answer(false);
    dialog.showModal();
  });
}

function card(id, changed) {
  // a job on the page; brought up to date in place, so that focus and sliders stay where they are
  const element = find("job").content.firstElementChild.cloneNode(true);
  const part = (name) => element.querySelector(name);
  element.id = `job-${id}`;
  const slider = part("input");
  let sheets = [];
  let followed = true; // the slider stays at the newest until it is moved
  let drawn = "";
  const look = () => {
    const sheet = sheets[Number(slider.value)];
    if (!sheet) return;
    const when = sheet.iteration ? say("job.sheet_of", { n: sheet.iteration }) : say("job.sheet_before");
    if (part(".sheet").getAttribute("src") !== sheet.src) part(".sheet").src = sheet.src;
    part(".sheet").alt = say("job.sheet_alt", { when });
    slider.setAttribute("aria-valuetext", when);
    put(part("output"), when);
  };
  pixels(part(".sheet"));
  slider.addEventListener("input", () => {
    followed = Number(slider.value) === sheets.length - 1;
    look();
  });
  for (const button of element.querySelectorAll("[data-do]"))
    button.addEventListener(
      "click",
      attempt(async () => {
        if (button.dataset.do === "cancel" && !(await sure())) return;
        await api("POST", `/api/jobs/${id}/${button.dataset.do}`);
        await changed?.();
      }),
    );
  const update = (job) => {
    const { progress = {} } = job;
    element.className = `card job ${job.state}`;
    put(part(".job-kind"), say(`job.${job.kind}`));
    put(part(".job-state"), standing(job));
    part(".job-course").hidden = !live(job) || job.state === "waiting";
    part("progress").value = progress.share ?? 0;
    part("progress").setAttribute("aria-label", say("job.progress", { what: say(`job.${job.kind}`) }));
    const step = progress.of ? say("job.iteration", { i: progress.iteration ?? 0, n: progress.of }) : "";
    put(part(".job-left"), [step, job.state === "running" ? left(progress.seconds_left) : ""].filter(Boolean).join(" · "));
    put(part(".job-message"), job.message ?? "");
    sheets = progress.sheets ?? [];
    part(".job-pictures").hidden = !sheets.length;
    slider.max = Math.max(sheets.length - 1, 0);
    slider.hidden = sheets.length < 2;
    if (followed) slider.value = slider.max;
    look();
    const curve = progress.curve ?? [];
    part(".job-curve").hidden = curve.length < 2;
    if (curve.length > 1 && drawn !== JSON.stringify(curve)) {
      drawn = JSON.stringify(curve);
      const lines = ["reward", "judge"].map((name) => ({ name: say(`job.${name}`), ys: curve.map((row) => row[name] ?? null) }));
      const shown = lines.filter((line) => line.ys.some((y) => y !== null));
      chart(part(".chart"), { title: say("job.curve"), xs: curve.map((row) => row.iteration), xLabel: say("job.steps"), lines: shown });
    }
    const stopping = job.wish === "pause" || job.wish === "cancel";
    part('[data-do="pause"]').hidden = stopping || job.kind !== "train" || job.state !== "running";
    part('[data-do="resume"]').hidden = !["paused", "failed"].includes(job.state) || job.kind !== "train";
    part('[data-do="cancel"]').hidden = job.wish === "cancel" || !live(job);
  };
  return { element, update };
}

function cards(place, changed) {
  // keeps one card a job inside an element, in the order given
  const kept = new Map();
  return (jobs) => {
    for (const [id, { element }] of kept)
      if (!jobs.some((job) => job.id === id)) {
        element.remove();
        kept.delete(id);
      }
    jobs.forEach((job, number) => {
      if (!kept.has(job.id)) kept.set(job.id, card(job.id, changed));
      const { element, update } = kept.get(job.id);
      if (place.children[number] !== element) place.insertBefore(element, place.children[number] ?? null);
      update(job);
    });
  };
}

function chooseAdapter(select, adapters, first = null) {
  const chosen = select.value;
  const options = [...adapters].reverse().map((adapter) => new Option(say("common.round_of", { n: adapter.round }), adapter.id));
  select.replaceChildren(...(first === null ? [] : [new Option(first, "")]), ...options);
  if ([...select.options].some((option) => option.value === chosen)) select.value = chosen;
}

function train() {
  const showLive = cards(find("jobs"), () => look());
  const showEarlier = cards(find("earlier"), () => look());
  let known = "";
  let queued = "";

  const rounds = (adapters) => {
    find("no-rounds").hidden = adapters.length > 0;
    find("how-to-load").hidden = !adapters.length;
    find("from-part").hidden = !adapters.length;
    if (known === JSON.stringify(adapters)) return;
    known = JSON.stringify(adapters);
    chooseAdapter(find("from"), adapters, say("train.base"));
    const numbers = Object.fromEntries(adapters.map((adapter) => [adapter.id, adapter.round]));
    find("adapters").replaceChildren(
      ...[...adapters].reverse().map((adapter) => {
        const begun = adapter.begun_from ? say("train.from_round", { n: numbers[adapter.begun_from] ?? "?" }) : say("train.from_base");
        const about = [say("train.round_about", { date: day(adapter.created), n: adapter.num_answers }), begun, say("train.strength", { value: adapter.strength })];
        return make(
          "article",
          { class: "card adapter" },
          make("div", {}, make("h3", {}, say("train.round", { n: adapter.round })), make("p", { class: "note" }, about.join(" · "))),
          make(
            "div",
            { class: "row" },
            make("a", { class: "button main", href: `/adapters/${adapter.id}/download`, download: true }, say("train.download")),
            make("a", { class: "button", href: `/compare?adapter=${adapter.id}` }, say("train.compare")),
            make("button", { type: "button", onclick: attempt(() => rateIts()) }, say("train.rate_its")),
            make("button", { type: "button", onclick: () => goOn(adapter.id) }, say("train.go_on")),
          ),
        );
      }),
    );
  };
  const rateIts = async () => {
    await api("PUT", "/api/settings", { source: "drawn" });
    location.assign("/rate");
  };
  const goOn = (id) => {
    find("from").value = id;
    find("begin").scrollIntoView({ block: "center" });
    find("from").focus();
  };

  const order = (queue) => {
    find("queue-part").hidden = queue.length < 2;
    if (queued === JSON.stringify(queue)) return;
    queued = JSON.stringify(queue);
    const focused = document.activeElement?.dataset?.move;
    const called = (job) => say(job.mine ? "train.queue_mine" : "train.queue_other", { kind: say(`job.${job.kind}`) });
    const movable = queue.filter((job) => job.id && job.state !== "running");
    const free = (from, to) => from && to && queue.slice(queue.indexOf(from), queue.indexOf(to)).every((job) => job.id); // nobody else waits longer
    const mover = (job, sign, moved, before) =>
      make(
        "button",
        {
          type: "button",
          "data-move": `${sign}${job.id}`,
          "aria-label": say(sign === "+" ? "train.up" : "train.down", { what: called(job) }),
          disabled: !free(before, moved),
          onclick: attempt(async () => {
            await api("POST", `/api/jobs/${moved.id}/move`, { before: before.id });
            await look();
            tell(say("train.moved", { n: 1 + [...find("queue").children].findIndex((row) => row.dataset.job === job.id) }));
          }),
        },
        sign === "+" ? "↑" : "↓",
      );
    find("queue").replaceChildren(
      ...queue.map((job) => {
        const at = movable.indexOf(job);
        const movers = at < 0 ? [] : [mover(job, "+", job, movable[at - 1]), mover(job, "-", movable[at + 1], job)];
        return make("li", { "data-job": job.id }, make("span", {}, called(job)), ...movers);
      }),
    );
    if (focused) document.querySelector(`[data-move="${CSS.escape(focused)}"]:enabled`)?.focus();
  };

  const prepare = attempt(async () => {
    const { progress } = await api("GET", "/api/questions");
    put(find("begin-known"), progress.answers ? progress.line : say("train.rate_first"));
    find("begin-row").hidden = !progress.answers;
    find("rate-first").hidden = Boolean(progress.answers);
    put(find("estimate"), (await api("GET", "/api/estimate?kind=train")).sentence);
  });

  const look = async () => {
    const [told, { adapters }] = await Promise.all([api("GET", "/api/jobs"), api("GET", "/api/adapters")]);
    const mine = told.jobs.filter((job) => job.kind !== "draw");
    const current = mine.filter(live);
    find("jobs-part").hidden = !current.length;
    showLive(current);
    const past = mine.filter((job) => !live(job) && job.kind === "train").slice(0, 8);
    find("earlier-part").hidden = !past.length;
    showEarlier(past);
    const busy = current.some((job) => job.kind === "train");
    if (!busy && find("begin").hidden) prepare();
    find("begin").hidden = busy;
    order(told.queue);
    rounds(adapters);
    return current.length ? 1500 : 6000;
  };

  on("begin", "submit", async () => {
    await api("POST", "/api/jobs", { kind: "train", settings: { begin_from: find("from").value || null } });
    await look();
    tell(say("train.begun"));
  });
  watch(look, 6000);
}

// blind comparison

function compare() {
  const asked = new URLSearchParams(location.search);
  let job = asked.get("job"); // the comparison on the page; the newest where none is asked for
  let pair = null;
  let ready = false;
  let turn = 0;
  let adapters = [];
  let preparing = false; // a comparison is being drawn
  const showJob = cards(find("current"), () => look());

  const show = async (told, focus = true) => {
    const mine = ++turn;
    pair = told.pair;
    ready = false;
    find("blind").hidden = !pair;
    find("before").hidden = Boolean(pair);
    find("begin").hidden = Boolean(pair) || !adapters.length || preparing;
    find("result").hidden = Boolean(pair) || !told.result;
    find("earlier-part").hidden = Boolean(pair) || !find("earlier").children.length;
    if (!pair && told.result) conclude(told.result, focus);
    if (!pair) return;
    put(find("place"), say("compare.place", pair));
    find("course").max = pair.of;
    find("course").value = pair.number - 1;
    find("back").disabled = pair.number === 1;
    put(find("prompt"), pair.prompt);
    const images = await Promise.all([loaded(pair.left), loaded(pair.right)]);
    if (mine !== turn) return;
    find("stage").className = "stage pair new";
    find("stage").replaceChildren(
      ...["left", "right"].map((side, place) =>
        make(
          "button",
          { type: "button", class: "frame", "aria-label": say(`compare.choose_${side}`, pair), onclick: (event) => isSingle(event) && choose(side) },
          make("img", { src: images[place].src, alt: "", class: images[place].small ? "small" : null }),
        ),
      ),
    );
    put(find("spoken"), `${say("compare.place", pair)}: ${pair.prompt}`);
    if (focus) find("question").focus({ preventScroll: true });
    ready = true;
  };

  const conclude = (result, focus) => {
    put(find("result-sentence"), result.sentence);
    find("rows").replaceChildren(
      ...result.rows.map((row) => {
        const arm = say(`compare.arm_${row.arm}`);
        const label = `${say("compare.share_label", { arm })}: ${say("common.between", { value: percent(row.share), low: percent(row.low), high: percent(row.high) })}`;
        const bar = interval(row.low, row.high, row.share, { middle: 0.5, label });
        return make("div", { class: "card arm" }, make("h3", {}, say("compare.against_arm", { arm })), make("div", { class: "chart" }, bar), make("p", {}, say("compare.won", row)));
      }),
    );
    if (focus) find("result-h").focus();
  };

  const choose = (chosen) => {
    if (!pair || !ready) return false;
    ready = false;
    const { id } = pair;
    run(async () => {
      try {
        await show(await api("POST", `/api/blind/${job}/pairs/${id}`, { chosen }));
        if (!pair) await look(); // the last one
      } finally {
        ready = Boolean(pair);
      }
    })();
    return true;
  };
  const back = async () => pair && show(await api("POST", `/api/blind/${job}/back`));

  const look = async () => {
    if (pair) return;
    const [told, kept] = await Promise.all([api("GET", "/api/jobs"), api("GET", "/api/adapters")]);
    adapters = kept.adapters;
    find("none").hidden = adapters.length > 0;
    chooseAdapter(find("adapter"), adapters);
    if (asked.has("adapter")) find("adapter").value = asked.get("adapter");
    asked.delete("adapter");
    document.querySelector('[name="against"][value="other"]').closest("label").hidden = !kept.others;
    const jobs = told.jobs.filter((one) => one.kind === "compare");
    const current = jobs.filter((one) => live(one) || (one.state === "failed" && one === jobs[0]));
    showJob(current);
    preparing = current.some(live);
    const done = jobs.filter((one) => one.state === "done");
    if (!done.some((one) => one.id === job)) job = current.length ? null : (done[0]?.id ?? null);
    find("earlier").replaceChildren(
      ...done.filter((one) => one.id !== job).map((one) => make("li", {}, make("a", { href: `/compare?job=${one.id}` }, say("compare.open", { date: day(one.created) })))),
    );
    find("take").href = adapters.length ? `/adapters/${adapters.at(-1).id}/download` : "/train";
    await show(job ? await api("GET", `/api/blind/${job}`) : { pair: null, result: null }, false);
  };

  on("begin", "submit", async () => {
    const against = [...document.querySelectorAll('[name="against"]:checked')].map((box) => box.value);
    if (!against.length) return tell(say("compare.choose_one"));
    job = null;
    await api("POST", "/api/jobs", { kind: "compare", settings: { adapter: find("adapter").value, against } });
    await look();
    tell(say("compare.prepares"));
  });
  on("back", "click", back);
  on("learn", "click", async () => {
    await api("POST", `/api/blind/${job}/learn`);
    tell(say("compare.learned"));
  });
  for (const button of document.querySelectorAll("[data-chosen]"))
    button.addEventListener("click", (event) => isSingle(event) && choose(button.dataset.chosen));
  listen({
    arrowleft: () => choose("left"),
    arrowright: () => choose("right"),
    arrowdown: () => choose("tie"),
    u: run(back),
    backspace: run(back),
  });
  watch(look, 2500);
}

// drawing with words

function drawing() {
  const showJob = cards(find("current"), () => look());
  const showSearch = cards(find("searching"), () => look());
  let open = null; // the job whose pictures are shown
  let waited = new Set(); // jobs begun here, shown when they are done
  let pictures = [];
  let chips = "";
  let won = "";

  const slide = () => {
    const picture = pictures[Number(find("strength").value)];
    if (!picture) return;
    find("own").src = picture.src;
    find("own").alt = say("draw.own_alt", { value: picture.strength, prompt: picture.prompt });
    put(find("own-label"), say("draw.own", { value: picture.strength }));
    find("strength").setAttribute("aria-valuetext", say("draw.strength_value", { value: picture.strength }));
  };
  const show = (job) => {
    open = job.id;
    pictures = [...job.result.pictures].sort((a, b) => a.strength - b.strength);
    pictures.forEach((picture) => loaded(picture.src));
    const [base] = pictures;
    put(find("drawn-h"), base.prompt);
    find("base").src = base.src;
    find("base").alt = say("draw.base_alt", { prompt: base.prompt });
    Object.assign(find("strength"), { min: 0, max: pictures.length - 1, step: 1 });
    find("strength").value = pictures.length - 1;
    find("strengths").replaceChildren(...pictures.map((picture, place) => new Option(String(picture.strength), place)));
    find("drawn").hidden = false;
    slide();
  };
  const winners = (job) => {
    if (won === job?.id || !job?.result) return;
    won = job.id;
    find("winners-part").hidden = !job.result.winners.length;
    find("winners").replaceChildren(
      ...job.result.winners.map((winner) => {
        const numbers = { gain: signed(winner.gain), low: signed(winner.low ?? 0), high: signed(winner.high ?? 0) };
        const gain = say(winner.low === null || winner.low === undefined ? "draw.winner_gain_alone" : "draw.winner_gain", numbers);
        const copy = async () => {
          await navigator.clipboard.writeText(winner.best);
          tell(say("draw.copied"));
        };
        const use = () => {
          find("words-typed").value = winner.best;
          find("words-typed").focus();
        };
        return make(
          "li",
          {},
          Object.assign(thumb(winner.picture), { alt: say("draw.winner_alt", { prompt: winner.best }) }),
          make(
            "div",
            {},
            make("p", { dir: "auto" }, make("strong", {}, winner.best)),
            make("p", { class: "note" }, `${say("draw.winner_from", winner)} · ${gain}`),
            make(
              "p",
              { class: "row" },
              make("button", { type: "button", class: "plain", onclick: attempt(copy) }, say("draw.copy")),
              find("begin").hidden ? null : make("button", { type: "button", class: "plain", onclick: use }, say("draw.use")),
            ),
          ),
        );
      }),
    );
  };

  const look = async () => {
    const [told, { adapters }] = await Promise.all([api("GET", "/api/jobs"), api("GET", "/api/adapters")]);
    find("none").hidden = adapters.length > 0;
    find("begin").hidden = !adapters.length;
    chooseAdapter(find("adapter"), adapters);
    const kinds = (kind) => told.jobs.filter((job) => job.kind === kind);
    const current = (kind) => kinds(kind).filter((job) => live(job) || (job.state === "failed" && job === kinds(kind)[0]));
    showJob(current("show"));
    showSearch(current("search"));
    const done = kinds("show").filter((job) => job.state === "done" && job.result?.pictures?.length);
    const finished = done.find((job) => waited.delete(job.id));
    if (finished || (!open && done.length)) show(finished ?? done[0]);
    find("earlier-part").hidden = done.length < 2;
    if (chips !== JSON.stringify(done.map((job) => job.id))) {
      chips = JSON.stringify(done.map((job) => job.id));
      const chip = (job) => make("button", { type: "button", dir: "auto", onclick: () => show(job) }, job.result.pictures[0].prompt);
      find("earlier").replaceChildren(...done.slice(0, 24).map(chip));
    }
    winners(kinds("search").find((job) => job.state === "done"));
    return current("show").length || current("search").length ? 1000 : 5000;
  };

  on("begin", "submit", async () => {
    const prompt = find("words-typed").value.trim();
    if (!prompt) return tell(say("draw.prompt_missing"));
    waited.add((await api("POST", "/api/jobs", { kind: "show", settings: { prompt, adapter: find("adapter").value } })).id);
    await look();
  });
  on("search", "submit", async () => {
    const prompts = find("search-words").value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (!prompts.length) return tell(say("draw.search_none"));
    await api("POST", "/api/jobs", { kind: "search", settings: { prompts } });
    await look();
  });
  find("strength").addEventListener("input", slide);
  pixels(find("base"));
  pixels(find("own"));
  watch(look, 5000);
}

// library

function refusals(place, text, refused) {
  const list = refused.map((file) => make("li", {}, say("library.refused_one", file)));
  const told = refused.length ? [make("p", {}, say("library.refused", { n: refused.length })), make("ul", {}, ...list)] : [];
  place.replaceChildren(make("p", {}, text), ...told);
}

function library() {
  let number = 1;
  let pages = 1;
  let seen = null;

  const look = async () => {
    const order = document.querySelector('[name="order"]:checked').value;
    const liked = find("only-liked").checked ? "&liked=true" : "";
    const told = await api("GET", `/api/pictures?order=${order}&page=${number}${liked}`);
    pages = Math.max(told.pages, 1);
    find("no-pictures").hidden = told.pictures.length > 0;
    find("turn").hidden = pages < 2;
    put(find("page-of"), say("library.page_of", { page: number, pages }));
    find("page-before").disabled = number <= 1;
    find("page-after").disabled = number >= pages;
    find("pictures").replaceChildren(...told.pictures.map((picture) => make("li", {}, tile(picture))));
  };
  const tile = (picture) => {
    const about = [];
    if (picture.excluded) about.push(say("library.excluded"));
    else {
      if (picture.rating !== null) about.push(say("library.badge_rated", { value: picture.rating }));
      if (picture.mean !== null) about.push(say("library.badge_predicted", { mean: picture.mean.toFixed(1) }));
    }
    const image = thumb(picture);
    image.alt = say("library.open", { prompt: named(picture) });
    const inside = [image, make("span", { class: "about" }, ...about.map((text) => make("span", {}, text)))];
    return make("button", { type: "button", class: `tile${picture.excluded ? " excluded" : ""}`, onclick: () => open(picture) }, ...inside);
  };
  const open = (picture) => {
    seen = picture;
    find("seen-picture").src = picture.src;
    find("seen-picture").alt = named(picture);
    put(find("seen-prompt"), named(picture));
    const about = [];
    if (picture.rating !== null) about.push(say("library.rated", { value: picture.rating }));
    if (picture.mean !== null) about.push(say("library.predicted_as", { mean: picture.mean.toFixed(1), std: (picture.std ?? 0).toFixed(1) }));
    if (picture.excluded) about.push(say("library.excluded"));
    put(find("seen-about"), about.join(" · "));
    find("seen").showModal();
  };
  const restart = () => {
    number = 1;
    return look();
  };
  const upload = async (files) => {
    if (!files.length) return;
    const form = new FormData();
    for (const file of files) form.append("files", file);
    put(find("uploaded"), say("common.loading"));
    try {
      const told = await api("POST", "/api/pictures", form);
      refusals(find("uploaded"), say("library.added", { n: told.added.length }), told.refused);
    } catch (error) {
      put(find("uploaded"), error.message);
    }
    await restart();
  };
  const bring = (id, path) =>
    on(id, "submit", async (event) => {
      const form = new FormData();
      for (const input of event.target.querySelectorAll('input[type="file"]'))
        if (input.files.length) form.append(input.name, input.files[0]);
      if (!form.has("file")) return tell(say("library.choose_first"));
      put(find("imported"), say("common.loading"));
      await imported(api("POST", path, form));
    });
  const imported = async (asked) => {
    try {
      const told = await asked;
      refusals(find("imported"), say("library.imported", told), told.refused ?? []);
    } catch (error) {
      put(find("imported"), error.message);
    }
    await restart();
  };

  for (const button of document.querySelectorAll('[name="order"], #only-liked')) button.addEventListener("change", attempt(restart));
  on("page-before", "click", () => {
    number -= 1;
    return look();
  });
  on("page-after", "click", () => {
    number += 1;
    return look();
  });
  on("files", "change", async (event) => {
    await upload([...event.target.files]);
    find("files").value = "";
  });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
    find("upload").addEventListener(kind, (event) => {
      event.preventDefault();
      find("upload").classList.toggle("over", kind === "dragenter" || kind === "dragover");
      if (kind === "drop") run(() => upload([...event.dataTransfer.files]))();
    });
  bring("import", "/api/imports");
  bring("import-everything", "/api/imports/everything");
  on("import-folder", "submit", (event) => imported(api("POST", "/api/imports/folder", { path: event.target.elements.path.value })));
  on("copy-liked", "submit", async (event) => {
    const { copied } = await api("POST", "/api/liked/copy", { least: 4, folder: event.target.elements.folder.value });
    put(find("copied"), say("library.copied", { n: copied }));
  });
  on("seen-delete", "click", async () => {
    await api("DELETE", `/api/pictures/${seen.id}`);
    find("seen").close();
    tell(say("library.deleted"));
    await look();
  });
  pixels(find("seen-picture"));
  on("seen-close", "click", () => find("seen").close());
  run(look)();
}

// settings, people, signing in

function remover(path) {
  // a dialog that asks for the name before anything goes; says what went
  const dialog = find("removing");
  const form = dialog.querySelector("form");
  form.addEventListener(
    "submit",
    attempt(async () => {
      const { went } = await api("DELETE", path(), { confirm: form.elements.confirm.value });
      dialog.close();
      find("went").replaceChildren(make("p", {}, say(`${page}.went`)), make("ul", {}, ...went.map((text) => make("li", {}, text))));
      dialog.dispatchEvent(new Event("removed"));
    }),
  );
  dialog.querySelector(".shut").addEventListener("click", () => dialog.close());
  return () => {
    form.reset();
    dialog.showModal();
  };
}

async function settings() {
  const form = find("asking");
  on("asking", "submit", async () => {
    const prompts = find("prompts").value.split("\n").map((line) => line.trim()).filter(Boolean);
    await api("PUT", "/api/settings", { kind: form.elements.kind.value, source: form.elements.source.value, prompts });
    tell(say("common.saved"));
  });
  find("remove").addEventListener("click", remover(() => "/api/me"));
  const told = await api("GET", "/api/settings");
  form.elements.kind.value = told.kind;
  form.elements.source.value = told.source;
  find("prompts").value = told.prompts.join("\n");
}

async function people() {
  const signIn = find("everybody").hasAttribute("data-sign-in");
  let going = null;
  const ask = remover(() => `/api/people/${going.id}`);
  const look = async () => {
    const told = await api("GET", "/api/people");
    find("everybody").replaceChildren(
      ...told.people.map((one) => {
        const about = [say("people.since", { date: day(one.created) }), one.is_admin ? say("people.admin") : ""].filter(Boolean).join(" · ");
        const remove = () => {
          going = one;
          put(find("removing-h"), say("people.remove_confirm", one));
          ask();
        };
        const renew = attempt(async () => showToken(one.name, await api("POST", `/api/people/${one.id}/token`)));
        const other = signIn ? make("button", { type: "button", onclick: renew }, say("people.other_token")) : null;
        const button = make("button", { type: "button", class: "grave", "aria-label": say("people.remove", one), onclick: remove }, say("people.remove_do"));
        return make("li", { class: "card person" }, make("div", {}, make("h3", { dir: "auto" }, one.name), make("p", { class: "note" }, about)), one.id === person ? null : make("div", { class: "row" }, other, button));
      }),
    );
  };
  const showToken = (name, { token }) => {
    find("invited").hidden = !token;
    put(find("invited-say"), say("people.token", { name }));
    put(find("token"), token ?? "");
    if (token) find("invited").scrollIntoView({ block: "center" });
  };
  find("removing").addEventListener("removed", run(look));
  on("invite", "submit", async (event) => {
    const name = event.target.elements.name.value.trim();
    if (!name) return tell(say("people.name_missing"));
    showToken(name, await api("POST", "/api/people", { name }));
    event.target.elements.name.value = "";
    await look();
  });
  on("copy-token", "click", async () => {
    await navigator.clipboard.writeText(find("token").textContent);
    tell(say("people.copied"));
  });
  await look();
}

function signIn() {
  find("sign-in").addEventListener("submit", async (event) => {
    event.preventDefault();
    const token = event.target.elements.token.value.trim();
    put(find("wrong"), token ? "" : say("sign_in.missing"));
    if (!token) return;
    try {
      await api("POST", "/sign-in", { token });
      location.assign("/");
    } catch (error) {
      put(find("wrong"), error.message);
    }
  });
  document.querySelector('[name="token"]').focus();
}

// where one begins: what is done and what is next

async function start() {
  const [asked, told, kept, seen] = await Promise.all([
    api("GET", "/api/questions"),
    api("GET", "/api/jobs"),
    api("GET", "/api/adapters"),
    api("GET", "/api/pictures?order=newest&page=1"),
  ]);
  const { progress } = asked;
  const training = told.jobs.find((job) => job.kind === "train" && live(job));
  const compared = told.jobs.some((job) => job.kind === "compare" && job.state === "done");
  const trained = kept.adapters.length;
  const step = (name, text, label) => {
    if (text) put(document.querySelector(`#step-${name} .step-say`), text);
    if (label) put(document.querySelector(`#step-${name} .step-do`), label);
  };
  if (progress.answers) {
    put(find("hello"), say("start.heading_back"));
    step("rate", progress.line || say("common.ratings", { n: progress.answers }), say("start.rate_more"));
  }
  if (training) step("train", say(`start.train_${training.state}`), say("start.train_watch"));
  else if (trained) step("train", say("start.train_done", { n: trained }), say("start.train_again"));
  else if (progress.enough) step("train", say("start.train_ready"));
  if (trained) document.querySelector("#step-take .step-do").href = `/adapters/${kept.adapters.at(-1).id}/download`;
  for (const [name, ready] of [["train", progress.answers || trained], ["compare", trained], ["take", trained]])
    document.querySelector(`#step-${name} .step-do`).hidden = !ready;
  const done = { rate: progress.enough || trained, train: trained && !training, compare: compared };
  const next = Object.keys(done).find((name) => !done[name]) ?? "take";
  for (const name of ["rate", "train", "compare", "take"]) {
    const item = find(`step-${name}`);
    item.classList.toggle("done", Boolean(done[name]));
    item.classList.toggle("next", name === next);
    item.querySelector(".tag").hidden = !done[name] && name !== next;
    put(item.querySelector(".tag"), done[name] ? say("start.done") : say("start.next"));
  }
  const lead = document.querySelector(`#step-${next} .step-do`);
  find("next").href = lead.href;
  put(find("next"), lead.textContent);
  find("recent").hidden = seen.pictures.length < 8;
  find("recent").replaceChildren(...seen.pictures.slice(0, 12).map(thumb));
}

function frame() {
  const menu = document.querySelector(".who");
  document.addEventListener("click", (event) => menu && !menu.contains(event.target) && menu.removeAttribute("open"));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu?.open) return;
    menu.removeAttribute("open");
    menu.querySelector("summary").focus();
  });
  for (const button of document.querySelectorAll("[data-here]"))
    button.addEventListener(
      "click",
      attempt(async () => {
        await api("POST", "/api/here", { person: button.dataset.here });
        location.assign("/");
      }),
    );
  on("sign-out", "click", async () => {
    await api("POST", "/sign-out");
    location.assign("/sign-in");
  });
  switchKeys();
}

frame();
const pages = { start, rate, taste, train, compare, draw: drawing, library, settings, people, sign_in: signIn };
if (pages[page]) attempt(async () => pages[page]())();
