// What the addon offers to this folder, and nobody else. Not public.
//
// - A call starts at once and ends its promise with a JSON value (ids are strings, times RFC 3339, money dollars).
// - Its failure is an Error with `engine: true`, `code`, `hint`, `retryable`, `details` and `causes` (messages).
// - `events` is called on the JavaScript thread, weakly: it does not hold the process. It must not throw.
// - `cancel` stops a call: it undoes what it began and rejects with the code `cancelled`.

import type { EventCallback } from './events.js'
import type {
  Adopted,
  ClaimsList,
  Cleaned,
  Copied,
  DoctorReport,
  Forgotten,
  LeaseInfo,
  LeaseStatus,
  LeaseSummary,
  OfferList,
  Provider,
  Released,
  Smoked,
  SshCommand,
  Touched,
} from './results.js'
import type { RunResult } from './run.js'

/** What every call is resolved from. */
export interface Context {
  env: Record<string, string>
  cwd: string
  /** Setting by its key in the engine's table, as text; stands where flags stand. */
  settings: Record<string, string>
  apiKey?: string
}

export declare class Cancel {
  constructor()
  cancel(): void
  /** Blocks until the calls of this token have ended, at most `millis`; whether they have. */
  wait(millis: number): boolean
  /** Resolves once they have ended, with what they still give back after their promise. */
  settled(): Promise<void>
}

type Events = EventCallback | null

/** A lease with its live SSH session and the engine that made it. */
export interface LeaseHandle {
  info(): LeaseInfo
  /** Starts a command; throws what is wrong with the request. */
  exec(request: ExecRequest, cancel: Cancel): Exec<Ended>
  /** Opens a terminal; its `next` gives `stdout` alone. */
  shell(request: { argv?: string[]; shell?: string; term: string; columns: number; rows: number }, cancel: Cancel, events: Events): Exec<Ended>
  copy(request: { local: string; remote: string; toRemote: boolean }, cancel: Cancel, events: Events): Promise<Copied>
  tunnel(forwards: string[], cancel: Cancel, events: Events): Promise<TunnelHandle>
  status(cancel: Cancel, events: Events): Promise<LeaseStatus>
  touch(request: { idleTimeout?: string }, cancel: Cancel, events: Events): Promise<Touched>
  release(request: { action?: string }, cancel: Cancel, events: Events): Promise<Released>
  /** Closes the SSH session, nothing else. */
  close(): void
}

/** Either `argv` (quoted for the remote shell) or `shell` (its own syntax). */
export interface ExecRequest {
  argv?: string[]
  shell?: string
  env: Record<string, string>
  cwd?: string
  /** Whether `write` and `end` will be called; otherwise standard input is closed at once. */
  stdin: boolean
}

/** Something that runs on an instance. */
export interface Exec<End> {
  /** The next piece of output, `null` after the last. Not asked for, the remote side waits. */
  next(): Promise<{ stream: 'stdout' | 'stderr'; data: Uint8Array } | null>
  /** Resolves when the piece is on its way; `false` when the command takes no more. */
  write(data: Uint8Array): Promise<boolean>
  end(): void
  /** Tells a terminal its new size. */
  resize(columns: number, rows: number): void
  /** How it ended; asked once. */
  done(): Promise<End>
}

export interface Ended {
  exitCode: number | null
  signal: string | null
}

/** Open ports. */
export interface TunnelHandle {
  facts(): { lease: string; slug: string; forwards: { local: number; host: string; port: number }[] }
  /** Serves until it is cancelled, which is how it ends well; once. */
  serve(cancel: Cancel, events: Events): Promise<void>
}

/** What a run is to do; see `RunOptions`. */
export interface RunWish {
  id?: string
  reclaim: boolean
  keep: boolean
  slug?: string
  leaseId?: string
  keepOnFailure: boolean
  stopAfter?: string
  argv?: string[]
  shell?: string
  script?: { name: string; content: Uint8Array }
  sync?: { forceLarge: boolean; checksum: boolean; full: boolean }
  syncOnly: boolean
  env: Record<string, string>
  allowEnv: string[]
  downloads: string[]
  envProfiles?: string[]
  artifacts?: string[]
  requiredArtifacts?: string[]
  captureOnFail?: boolean
  label?: string
}

export interface Native {
  version(): string
  errorCodes(): { code: string; exitCode: number; retryable: boolean }[]
  /** The engine's table of settings, from which options and typings are generated. */
  settings(): { key: string; kind: string; words: string[]; max: number | null; default: string; unit: string; help: string; env: string[] }[]
  Cancel: typeof Cancel
  acquire(request: { context: Context; keep: boolean; slug?: string; leaseId?: string }, cancel: Cancel, events: Events): Promise<LeaseHandle>
  release(request: { context: Context; id: string; action?: string }, cancel: Cancel, events: Events): Promise<Released>
  list(request: { context: Context; all: boolean }, cancel: Cancel, events: Events): Promise<LeaseSummary[]>
  status(
    request: { context: Context; id: string; wait: boolean; waitTimeoutSeconds?: number },
    cancel: Cancel,
    events: Events,
  ): Promise<LeaseStatus>
  touch(request: { context: Context; id: string }, cancel: Cancel, events: Events): Promise<Touched>
  doctor(request: { context: Context; id?: string }, cancel: Cancel, events: Events): Promise<DoctorReport>
  searchOffers(request: { context: Context; limit?: number }, cancel: Cancel, events: Events): Promise<OfferList>
  open(request: { context: Context; id: string; reclaim: boolean }, cancel: Cancel, events: Events): Promise<LeaseHandle>
  start(request: { context: Context; id: string }, cancel: Cancel, events: Events): Promise<LeaseHandle>
  /** Starts a run; throws what is wrong with the request. */
  run(request: { context: Context; request: RunWish; stdin: boolean }, cancel: Cancel, events: Events): Exec<RunResult>
  tunnel(
    request: { context: Context; id: string; reclaim: boolean; forwards: string[] },
    cancel: Cancel,
    events: Events,
  ): Promise<TunnelHandle>
  copy(request: { context: Context; from: string; to: string; reclaim: boolean }, cancel: Cancel, events: Events): Promise<Copied>
  sshCommand(request: { context: Context; id: string; reclaim: boolean }, cancel: Cancel, events: Events): Promise<SshCommand>
  cleanup(request: { context: Context; dryRun: boolean }, cancel: Cancel, events: Events): Promise<Cleaned>
  listClaims(request: { context: Context }, cancel: Cancel): Promise<ClaimsList>
  forget(request: { context: Context; id: string; yes: boolean }, cancel: Cancel, events: Events): Promise<Forgotten>
  adopt(request: { context: Context; id: string; keep: boolean }, cancel: Cancel, events: Events): Promise<Adopted>
  liveSmoke(request: { context: Context }, cancel: Cancel, events: Events): Promise<Smoked>
  showConfig(request: { context: Context; origin: boolean }, cancel: Cancel): Promise<Record<string, unknown>>
  providers(): Provider[]
}
