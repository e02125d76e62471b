// What a page and its worker say to each other. The page calls functions of the worker and gets promises; the worker
// tells events. An error of the worker arrives as an error with its message.

/** Functions of a worker by name. */
export type Service = Readonly<Record<string, (...args: never[]) => unknown>>;

interface Call {
  readonly id: number;
  readonly name: string;
  readonly args: readonly unknown[];
}
type Answer =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly failure: string }
  | { readonly event: string; readonly value: unknown };

/** The page's side. */
export interface Connection<S extends Service, Events> {
  call<Name extends keyof S & string>(name: Name, ...args: Parameters<S[Name]>): Promise<Awaited<ReturnType<S[Name]>>>;
  on<Name extends keyof Events & string>(event: Name, listen: (value: Events[Name]) => void): void;
}

/** Connects a page to its worker. What ends the worker itself is told to `onFailure`. */
export function connect<S extends Service, Events>(
  worker: Worker,
  onFailure: (message: string) => void,
): Connection<S, Events> {
  let last = 0;
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  const listeners = new Map<string, (value: never) => void>();
  worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => {
    if ("event" in data) return listeners.get(data.event)?.(data.value as never);
    const call = waiting.get(data.id);
    waiting.delete(data.id);
    if ("failure" in data) call?.reject(new Error(data.failure));
    else call?.resolve(data.value as never);
  });
  worker.addEventListener("error", (event) => {
    const message = event.message || "the worker could not be loaded";
    for (const { reject } of waiting.values()) reject(new Error(message));
    waiting.clear();
    onFailure(message);
  });
  return {
    call: (name, ...args) =>
      new Promise((resolve, reject) => {
        last++;
        waiting.set(last, { resolve, reject });
        // Pictures change hands, they are not copied.
        const pictures = (args as readonly unknown[]).filter((value) => value instanceof ImageBitmap);
        worker.postMessage({ id: last, name, args } satisfies Call, pictures);
      }),
    on: (event, listen) => void listeners.set(event, listen as (value: never) => void),
  };
}

/** The worker's side: answers calls, those that come while the service loads included. */
export function serve(service: Promise<Service>): void {
  self.addEventListener("message", async ({ data: { id, name, args } }: MessageEvent<Call>) => {
    try {
      const value = await (await service)[name]!(...(args as never[]));
      self.postMessage({ id, value } satisfies Answer);
    } catch (error) {
      self.postMessage({ id, failure: error instanceof Error ? error.message : String(error) } satisfies Answer);
    }
  });
}

/** Tells the page something. */
export function tell(event: string, value: unknown): void {
  self.postMessage({ event, value } satisfies Answer);
}
