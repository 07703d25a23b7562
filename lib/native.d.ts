// What the addon offers to this folder, and nobody else. Not public.
//
// - A call starts at once and ends its promise with a JSON value (ids are strings, times RFC 3339, money dollars).
// - Its failure is an Error with `engine: true`, `code`, `hint`, `retryable`, `details` and `causes` (messages).
// - `events` is called on the JavaScript thread, weakly: it does not hold the process. It must not throw.
// - `cancel` stops a call: it undoes what it began and rejects with the code `cancelled`.

import type { EventCallback } from './events.js'
import type { DoctorReport, LeaseInfo, LeaseStatus, LeaseSummary, Offer, Released, Touched } from './results.js'

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
}

type Events = EventCallback | null
type Action = 'destroy' | 'stop' | 'keep'

/** A lease with its live SSH session and the engine that made it. */
export interface LeaseHandle {
  info(): LeaseInfo
  /** Starts a command; throws what is wrong with the request. */
  exec(request: ExecRequest, cancel: Cancel): Exec
  status(cancel: Cancel, events: Events): Promise<LeaseStatus>
  touch(cancel: Cancel, events: Events): Promise<Touched>
  release(request: { action?: Action }, cancel: Cancel, events: Events): Promise<Released>
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

export interface Exec {
  /** The next piece of output, `null` after the last. Not asked for, the remote side waits. */
  next(): Promise<{ stream: 'stdout' | 'stderr'; data: Uint8Array } | null>
  /** Resolves when the piece is on its way; `false` when the command takes no more. */
  write(data: Uint8Array): Promise<boolean>
  end(): void
  /** How the command ended; after `next` gave `null`. */
  done(): Promise<{ exitCode: number | null; signal: string | null }>
}

export interface Native {
  version(): string
  errorCodes(): { code: string; exitCode: number; retryable: boolean }[]
  /** The engine's table of settings, from which options and typings are generated. */
  settings(): { key: string; kind: string; words: string[]; max: number | null; default: string; unit: string; help: string; env: string[] }[]
  Cancel: typeof Cancel
  acquire(request: { context: Context; keep: boolean; slug?: string; leaseId?: string }, cancel: Cancel, events: Events): Promise<LeaseHandle>
  release(request: { context: Context; id: string; action?: Action }, cancel: Cancel, events: Events): Promise<Released>
  list(request: { context: Context; all: boolean }, cancel: Cancel, events: Events): Promise<LeaseSummary[]>
  status(
    request: { context: Context; id: string; wait: boolean; waitTimeoutSeconds?: number },
    cancel: Cancel,
    events: Events,
  ): Promise<LeaseStatus>
  touch(request: { context: Context; id: string }, cancel: Cancel, events: Events): Promise<Touched>
  doctor(request: { context: Context }, cancel: Cancel, events: Events): Promise<DoctorReport>
  searchOffers(request: { context: Context; limit?: number }, cancel: Cancel, events: Events): Promise<Offer[]>
}
