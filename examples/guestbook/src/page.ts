// The guestbook's page at one point of presence.

import type { Guest } from "./index";

const escaped = (text: string) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** A hue for a place, the same wherever it is shown. */
const hue = (place: string) => [...place].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 360, 7);

const badge = (place: string) => `<span class="badge" style="--hue:${hue(place)}">${escaped(place)}</span>`;

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --paper: #fcfcfd; --card: #fff; --line: #e4e6ea; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #a5a9b2; --paper: #111214; --card: #18191c; --line: #2c2e33; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0; padding: 3rem 1.25rem; }
main { max-width: 34rem; margin: 0 auto; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.02em; }
p { color: var(--soft); margin: 0 0 1.5rem; }
.badge { display: inline-block; font: 600 .75rem/1 ui-monospace, monospace; padding: .3rem .5rem; border-radius: .4rem; color: hsl(var(--hue) 60% 30%); background: hsl(var(--hue) 70% 90%); }
@media (prefers-color-scheme: dark) { .badge { color: hsl(var(--hue) 70% 80%); background: hsl(var(--hue) 40% 22%); } }
form { display: flex; gap: .5rem; margin: 0 0 1.5rem; }
input, button { font: inherit; padding: .55rem .8rem; border-radius: .5rem; border: 1px solid var(--line); }
input { flex: 1; min-width: 0; background: var(--card); color: inherit; }
button { border-color: transparent; background: var(--ink); color: var(--paper); font-weight: 600; cursor: pointer; }
:focus-visible { outline: 2px solid hsl(212 90% 55%); outline-offset: 2px; }
ul { list-style: none; margin: 0; padding: 0; border: 1px solid var(--line); border-radius: .75rem; background: var(--card); overflow: hidden; }
li { display: flex; align-items: center; gap: .75rem; padding: .7rem 1rem; border-top: 1px solid var(--line); }
li:first-child { border-top: 0; }
li b { flex: 1; min-width: 0; overflow-wrap: anywhere; font-weight: 600; }
time, footer { color: var(--soft); font-size: .85rem; }
.empty { padding: 1.5rem 1rem; color: var(--soft); justify-content: center; }
footer { margin-top: 1.25rem; font-family: ui-monospace, monospace; min-height: 1.3em; }
`;

// What the platform says of this very answer.
const SCRIPT = `
const [page] = performance.getEntriesByType("navigation");
const told = page.serverTiming.filter((entry) => entry.name === "db").map((entry) => entry.description);
document.querySelector("footer").textContent = told.length ? "Server-Timing: " + told.join(", ") : "";
`;

export function page(place: string, primary: boolean, guests: Guest[], maxName: number): string {
  const entry = ({ name, place, signed_at }: Guest) =>
    `<li><b>${escaped(name)}</b>${badge(place)}<time datetime="${signed_at}">${signed_at.slice(11, 19)}</time></li>`;
  const list = guests.map(entry).join("\n") || '<li class="empty">Nobody has signed yet.</li>';
  const role = primary ? "which holds the primary copy: what is written begins here" : "from its own copy of the data";
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Guestbook at ${escaped(place)}</title>
<style>${STYLE}</style>
<main>
<h1>Guestbook</h1>
<p>Answered by ${badge(place)} ${role}.</p>
<form method="post" action="/sign">
<input name="name" aria-label="Your name" placeholder="Your name" maxlength="${maxName}" autocomplete="off" required autofocus>
<button>Sign</button>
</form>
<ul>
${list}
</ul>
<footer></footer>
</main>
<script>${SCRIPT}</script>
</html>
`;
}
