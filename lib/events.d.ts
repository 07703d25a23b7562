import type { Endpoint } from './results.js'

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
  /** A release began. */
  | { readonly type: 'releasing'; readonly lease: string; readonly instance: string }
  /** Somebody bid more: the instance is stopped, its disk is billed on. */
  | { readonly type: 'outbid'; readonly lease: string; readonly instance: string }
  /** Something that did not stop the call but should be known. */
  | { readonly type: 'warning'; readonly message: string }

/** Receives the events of a call. What it throws becomes a process warning; it never ends the call. */
export type EventCallback = (event: VastEvent) => void
