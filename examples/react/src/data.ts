export interface Place {
  code: string;
  city: string;
}

/** Stands for a database that takes its time. */
export async function loadPlaces(milliseconds: number): Promise<Place[]> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  return [
    { code: "iad", city: "Ashburn" },
    { code: "fra", city: "Frankfurt" },
    { code: "nrt", city: "Tokyo" },
  ];
}
