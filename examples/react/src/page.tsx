import { Suspense, use } from "react";
import type { Place } from "./data";

function Places({ places }: { places: Promise<Place[]> }) {
  return (
    <ul className="places">
      {use(places).map((place) => (
        <li key={place.code}>
          <code>{place.code}</code> {place.city}
        </li>
      ))}
    </ul>
  );
}

/** The shell goes out at once; what is below `Suspense` follows when its data is there. */
export function Page({ places }: { places: Promise<Place[]> }) {
  return (
    <html lang="en">
      <head>
        <meta charSet="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>Streamed by React</title>
        <link rel="stylesheet" href="/style.css" />
      </head>
      <body>
        <main>
          <h1>Streamed by React</h1>
          <p>This line was sent before the list below was known.</p>
          <Suspense fallback={<p className="waiting">Asking a slow database…</p>}>
            <Places places={places} />
          </Suspense>
        </main>
      </body>
    </html>
  );
}
