import type { Endpoint, LeaseInfo } from './results.js'

/** A stage that takes time. */
export type Phase = 'search' | 'create' | 'recover' | 'boot' | 'connect' | 'ready' | 'run' | 'release' | 'prove'

/**
 * What happens during a call. Events inform; results carry everything that matters. More types may come with any version.
 */
export type VastEvent =
  /** A stage began, or says how it goes. */
  | { readonly type: 'phase'; readonly phase: Phase; readonly message: string }
  /** An offer is about to be rented; `price` and `maxDph` are dollars per hour, a cap of 0 is none. */
  | {
      readonly type: 'provisioning'
      readonly lease: string
      readonly slug: string
      readonly offer: string
      readonly gpu: string
      readonly count: number
      readonly price: number
      readonly maxDph: number
      readonly keep: boolean
    }
  /** The offer was taken by somebody else; the next one is tried. */
  | { readonly type: 'offerGone'; readonly offer: string; readonly message: string }
  /** The instance exists. */
  | { readonly type: 'created'; readonly lease: string; readonly instance: string }
  /** A host key was seen for the first time; from now on only this one is accepted. */
  | { readonly type: 'hostKey'; readonly endpoint: Omit<Endpoint, 'user'>; readonly fingerprint: string }
  /** The lease is usable. */
  | {
      readonly type: 'provisioned'
      readonly lease: string
      readonly instance: string
      readonly gpu: string
      readonly seconds: number
    }
  /** The workspace of the lease is ours: no other run works there. `recovered`: a dead owner was cleared away. */
  | { readonly type: 'workspaceAcquired'; readonly seconds: number; readonly recovered: boolean }
  /** Another run works in the workspace; `child`: only a process that it left behind. */
  | { readonly type: 'workspaceBusy'; readonly seconds: number; readonly state: 'busy' | 'child' }
  /** The workspace is free for the next run. */
  | { readonly type: 'workspaceReleased' }
  /** What a run works with. */
  | { readonly type: 'runContext'; readonly run: string; readonly lease: LeaseInfo; readonly workdir: string }
  /** Local variables go to the command, or were asked for and are not set: names, never values. */
  | { readonly type: 'envForwarded'; readonly names: readonly string[]; readonly line: string }
  /** A script was brought over. */
  | { readonly type: 'scriptUploaded'; readonly path: string; readonly bytes: number }
  /** A file was fetched. */
  | { readonly type: 'downloaded'; readonly remote: string; readonly local: string; readonly bytes: number }
  /** What a run says about itself once its command has ended, in crabbox's words. */
  | { readonly type: 'runReport'; readonly lines: readonly string[] }
  /** A sync begins. */
  | { readonly type: 'syncing'; readonly from: string; readonly host: string; readonly workdir: string }
  /** What a sync would bring over is known. */
  | {
      readonly type: 'syncCandidate'
      readonly files: number
      readonly bytes: number
      readonly changedFiles: number
      readonly changedBytes: number
    }
  /** A sync or a copy goes on; a total of 0 is not known. */
  | {
      readonly type: 'transfer'
      readonly files: number
      readonly totalFiles: number
      readonly bytes: number
      readonly totalBytes: number
    }
  /** Nothing differed: the sync was skipped. */
  | { readonly type: 'syncSkipped'; readonly seconds: number }
  /** The tree is on the instance. */
  | { readonly type: 'syncComplete'; readonly seconds: number; readonly files: number; readonly bytes: number }
  /** A command is about to run. */
  | {
      readonly type: 'running'
      readonly run: string
      readonly lease: LeaseInfo
      readonly workdir: string
      readonly command: string
    }
  /** The command ended; `total` is seconds since the call. */
  | { readonly type: 'commandEnded'; readonly seconds: number; readonly total: number }
  /** A release began. */
  | { readonly type: 'releasing'; readonly lease: string; readonly instance: string }
  /** Somebody bid more: the instance is stopped, its disk is billed on. */
  | { readonly type: 'outbid'; readonly lease: string; readonly instance: string }
  /** Something that did not stop the call but should be known. */
  | { readonly type: 'warning'; readonly message: string }

/** Receives the events of a call. What it throws becomes a process warning; it never ends the call. */
export type EventCallback = (event: VastEvent) => void
