"use strict";
// The reader of answers. Texts of the run are set with textContent only, so that they cannot become markup.
(() => {
  const PAGE = 20;
  // With the flag u, a surrogate matches only if it is alone.
  const HIDDEN =
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu;
  const by = (id) => document.getElementById(id);
  const state = by("state"), list = by("list"), more = by("more");
  let data = null, found = [], drawn = 0;

  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Adds a text to an element, with each hidden character as its code point.
  function addText(target, text) {
    const plain = text.replace(/\r\n/g, "\n");
    let end = 0;
    for (const match of plain.matchAll(HIDDEN)) {
      target.append(plain.slice(end, match.index));
      const code = match[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
      target.append(element("span", "code", "U+" + code));
      end = match.index + match[0].length;
    }
    target.append(plain.slice(end));
    return target;
  }

  async function unpack() {
    if (typeof DecompressionStream === "undefined") {
      throw new Error("this browser has no DecompressionStream; use Chrome 80, Firefox 113, Safari 16.4 or a later version");
    }
    const coded = atob(by("packed").textContent.trim());
    const bytes = new Uint8Array(coded.length);
    for (let at = 0; at < coded.length; at++) bytes[at] = coded.charCodeAt(at);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  const read = ([id, seed, text, length, answers, verdicts, judged], order) =>
    ({ id, seed, text, length, answers, verdicts, judged, order });
  const score = (row, model) => (row.answers[model] ? row.answers[model][1] : null);
  const gain = (row, a, b) => {
    const one = score(row, a), other = score(row, b);
    return one === null || other === null ? null : one - other;
  };

  // The preferences in percent for model a over model b: a read first, a read second. Null if they were not compared.
  function verdict(row, a, b) {
    for (let at = 0; at < data.pairs.length; at++) {
      const [left, right] = data.pairs[at];
      const pair = row.verdicts.slice(2 * at, 2 * at + 2);
      if (left === a && right === b) return pair;
      if (left === b && right === a) return pair.reverse().map((one) => (one === null ? null : 100 - one));
    }
    return null;
  }

  const side = (preference) => Math.sign(preference - 50);
  // 1 won, 0 tied, -1 lost, null without a verdict in both orders; different verdicts are a tie.
  function outcome(pair) {
    if (!pair || pair.includes(null) || pair.includes(undefined)) return null;
    return side(pair[0]) === side(pair[1]) ? side(pair[0]) : 0;
  }

  const FILTERS = {
    all: () => true,
    won: (row, a, b) => outcome(verdict(row, a, b)) === 1,
    lost: (row, a, b) => outcome(verdict(row, a, b)) === -1,
    tied: (row, a, b) => outcome(verdict(row, a, b)) === 0,
    orders: (row, a, b) => {
      const pair = verdict(row, a, b);
      return outcome(pair) !== null && side(pair[0]) !== side(pair[1]);
    },
    disagrees: (row, a) => (row.judged[a] || []).some(([, , gold, own]) => gold !== null && own !== null && Math.abs(gold - own) >= 1),
    cut: (row, a) => row.answers[a] !== null && row.answers[a][2] === "cut",
    unparsed: (row, a, b) => {
      const answer = row.answers[a], pair = verdict(row, a, b);
      const failed = !answer || !["answered", "cut"].includes(answer[2]) || answer[3] !== "answered";
      return failed || (pair !== null && outcome(pair) === null);
    },
  };
  // Ascending keys; null is last.
  const SORTS = {
    order: () => 0,
    gain: (row, a, b) => negative(gain(row, a, b)),
    loss: (row, a, b) => gain(row, a, b),
    low: (row, a) => score(row, a),
    long: (row, a) => negative(row.answers[a] ? row.answers[a][6] : null),
  };
  function negative(value) {
    return value === null ? null : -value;
  }

  function select() {
    const a = Number(by("a").value), b = Number(by("b").value), words = by("find").value.toLowerCase();
    const keep = FILTERS[by("show").value], key = SORTS[by("sort").value];
    const holds = (row) => !words || row.id === words || row.text.toLowerCase().includes(words) ||
      row.answers.some((answer) => answer && answer[0].toLowerCase().includes(words));
    found = data.rows.filter((row) => keep(row, a, b) && holds(row)).map((row) => [key(row, a, b), row]);
    const last = (value) => (value === null ? Infinity : value);
    found.sort(([x, one], [y, other]) => (last(x) < last(y) ? -1 : last(x) > last(y) ? 1 : one.order - other.order));
    list.replaceChildren();
    drawn = 0;
    draw();
  }

  function draw() {
    const a = Number(by("a").value), b = Number(by("b").value);
    for (const [, row] of found.slice(drawn, drawn + PAGE)) list.append(prompt(row, a, b));
    drawn = Math.min(drawn + PAGE, found.length);
    more.hidden = drawn === found.length;
    state.textContent = `${drawn} of ${found.length} matching prompts are shown; the page has ${data.rows.length}.`;
  }

  function prompt(row, a, b) {
    const box = element("article", "prompt");
    const difference = gain(row, a, b);
    const facts = [`prompt ${row.id}`];
    if (row.seed !== null) facts.push(`seed ${row.seed}`);
    if (difference !== null && a !== b) facts.push(`difference of scores ${difference > 0 ? "+" : ""}${+difference.toFixed(2)}`);
    box.append(element("h3", "", facts.join(", ")), addText(element("div", "text-of"), row.text));
    if (row.length) box.append(note(row.length, "prompt", "in the prompts of the run's evaluation folder"));
    const cards = element("div", "cards");
    const order = [...new Set([a, b, ...data.models.keys()])];
    for (const model of order) cards.append(card(row, model, a, b));
    box.append(cards);
    return box;
  }

  function card(row, model, a, b) {
    const box = element("section", "card" + (model === a ? " a" : model === b ? " b" : ""));
    const answer = row.answers[model];
    const title = addText(element("h4"), data.models[model]);
    box.append(title);
    if (!answer) {
      box.append(element("p", "facts mark", "no answer"));
      return box;
    }
    const [text, points, outcomeOf, scored, reason, detail, words, length] = answer;
    title.append(points === null ? ": no score" : `: score ${+points.toFixed(2)}`);
    box.append(addText(element("div", "text-of"), text));
    if (length) box.append(note(length, "answer", "in " + data.files[row.seed][model]));
    box.append(element("p", "facts", `${words} word${words === 1 ? "" : "s"}`));
    if (outcomeOf !== "answered") box.append(addText(element("p", "facts mark", `answer ${outcomeOf}: `), detail));
    if (scored && scored !== "answered") box.append(element("p", "facts mark", `score ${scored}`));
    if (reason) box.append(addText(element("p", "facts", "reason: "), reason));
    if (model === a) box.append(...verdicts(row, model));
    else if (verdict(row, a, model)) box.append(...verdicts(row, model, a));
    const samples = row.judged[model] || [];
    if (samples.length) box.append(judged(samples, row, model));
    return box;
  }

  function note(length, kind, where) {
    return element("p", "facts mark", `Cut: the ${kind} has ${length.toLocaleString("en")} characters; the whole one is ${where}.`);
  }

  // The verdicts of a model against one other model, or against all.
  function verdicts(row, model, other) {
    const against = other === undefined ? [...data.models.keys()].filter((one) => one !== model) : [other];
    const lines = [];
    for (const one of against) {
      const pair = verdict(row, model, one);
      if (!pair) continue;
      const result = outcome(pair);
      const word = result === null ? "no verdict" : side(pair[0]) !== side(pair[1]) ? "tied, orders differ" : ["lost", "tied", "won"][result + 1];
      const percent = (value) => (value === null || value === undefined ? "unparsed" : `${value}%`);
      const line = element("p", "facts", "against ");
      addText(line, data.models[one]);
      line.append(`: ${word} (preference ${percent(pair[0])} read first, ${percent(pair[1])} read second)`);
      lines.push(line);
    }
    if (other !== undefined || lines.length < 2) return lines;
    const all = element("details");
    all.append(element("summary", "facts", `${lines.length} verdicts`), ...lines);
    return [all];
  }

  function judged(samples, row, model) {
    const box = element("details");
    box.append(element("summary", "facts", `${samples.length} sampled answers that it judged itself`));
    for (const [index, text, gold, own, length] of samples) {
      const show = (value) => (value === null ? "none" : +value.toFixed(2));
      const facts = element("p", "facts", `sample ${index}: own score ${show(own)}, gold score ${show(gold)}`);
      if (gold !== null && own !== null && Math.abs(gold - own) >= 1) facts.classList.add("mark");
      box.append(facts, addText(element("div", "text-of"), text));
      if (length) box.append(note(length, "answer", "in " + data.files[row.seed][model].replace("greedy", "sampled")));
    }
    return box;
  }

  // A link such as #read?a=1&b=0&sort=gain&show=all sets the controls.
  function follow() {
    if (!location.hash.startsWith("#read?")) return;
    const wanted = new URLSearchParams(location.hash.slice("#read?".length));
    for (const id of ["a", "b", "sort", "show", "find"]) {
      const value = wanted.get(id);
      const control = by(id);
      if (id === "find") control.value = value || "";
      else if ([...control.options].some((option) => option.value === value)) control.value = value;
    }
    select();
    by("reader").scrollIntoView();
  }

  function start(unpacked) {
    data = unpacked;
    data.rows = data.rows.map(read);
    for (const id of ["a", "b"]) {
      data.models.forEach((model, at) => {
        const option = element("option", "", model);
        option.value = String(at);
        by(id).append(option);
      });
    }
    by("a").value = String(data.models.length - 1);
    by("b").value = "0";
    for (const id of ["a", "b", "show", "sort"]) by(id).addEventListener("change", select);
    let waiting = 0;
    by("find").addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(select, 150);
    });
    more.addEventListener("click", draw);
    window.addEventListener("hashchange", follow);
    by("controls").hidden = false;
    select();
    follow();
  }

  unpack().then(start).catch((error) => {
    state.textContent = `The answers cannot be shown: ${error.message}`;
  });
})();
