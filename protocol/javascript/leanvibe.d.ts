// Types of leanvibe.js. What crosses the wire is in messages.d.ts, generated from the server's own classes.

import type {
  Accepted, Assist, ClientsChanged, CommandData, ConnectedDevice, DeadLetterData, DeadLettersChanged, Done, ErrorCode, ErrorData,
  Generate, GoingAway, Json, MessageData, MetricsChanged, MetricsPoint, ModelData, ModelsChanged, RequestData, RequestsChanged,
  ResultData, TraceRecordData, TraceRecords, TraceWish, TreeChanged, TreeNodeData, Welcome,
} from "./messages.js";

export type * from "./messages.js";

export declare const SUBPROTOCOL: string;
export declare const VERSION: number;
/** Whether to come back after a close code. */
export declare const CLOSE_CODES: Readonly<Record<number, "yes" | "no" | "after">>;

/** The server said no. */
export declare class CommandFailed extends Error {
  constructor(data: ErrorData);
  readonly data: ErrorData;
  readonly code: ErrorCode;
}

/** The connection ended and no other follows, or an answer was lost with it. */
export declare class Disconnected extends Error {
  constructor(code: number | null | undefined, reason?: string, message?: string);
  readonly code: number | null | undefined;
  readonly reason: string | undefined;
}

/** The server will not have this client, and would not the next time either. */
export declare class Refused extends Disconnected {
  constructor(reason: string, code?: number | null);
}

/** A command that changes something was sent and its answer did not come: it may have been carried out. */
export declare class OutcomeUnknown extends Disconnected {
  constructor(kind: string, commandId: string, cause: Disconnected);
  readonly kind: string;
  readonly commandId: string;
}

/** Commands that change nothing, so that they may be sent again at any time. */
export declare const READS: ReadonlySet<string>;

/** Commands of operators: sent once, and only while there is a connection. */
export declare const OPERATOR_COMMANDS: ReadonlySet<string>;

/** Of each topic that an operator may watch the field that its things are known by. */
export declare const TOPIC_KEYS: Readonly<{ [topic in Topic]: string }>;

/** What may be watched, and of what it consists. */
export interface TopicItems {
  tree: TreeNodeData;
  metrics: MetricsPoint;
  requests: RequestData;
  models: ModelData;
  dead_letters: DeadLetterData;
  clients: ConnectedDevice;
}
export type Topic = keyof TopicItems;

/** What the last message of a topic says. */
export interface TopicMessages {
  tree: TreeChanged;
  metrics: MetricsChanged;
  requests: RequestsChanged;
  models: ModelsChanged;
  dead_letters: DeadLettersChanged;
  clients: ClientsChanged;
  trace: TraceRecords;
}

/** What an operator sees of the server. Iterate over it for the names of topics that changed. */
export declare class OperatorView implements AsyncIterable<Topic | "trace"> {
  readonly topics: readonly Topic[];
  readonly trace: readonly TraceRecordData[];
  /** Its things, in order; undefined of a topic that is not watched here. */
  items<T extends Topic>(topic: T): ReadonlyMap<string, TopicItems[T]> | undefined;
  latest<T extends keyof TopicMessages>(topic: T): TopicMessages[T] | null;
  [Symbol.asyncIterator](): AsyncGenerator<Topic | "trace", void, void>;
  close(): Promise<void>;
}

/** Whether a connection that ended with this close code may be opened again. */
export declare function comesBack(code: number | null | undefined): boolean;

/** Milliseconds before an attempt: full jitter; what the server said wins. */
export declare function delayMs(attempt: number, hintMs?: number, random?: () => number): number;

/** How far a client has followed one stream. */
export declare class StreamPosition {
  constructor(stream: string, epoch: string, seq?: number);
  stream: string;
  epoch: string;
  seq: number;
  isRecovering: boolean;
  take(frame: { seq: number; first_seq?: number }): "next" | "seen" | "loss";
  point(): { stream: string; epoch: string; seq: number };
  resumed(result: { resumed?: boolean; head?: number; snapshot?: { seq?: number; epoch?: string } }, epoch?: string): boolean;
}

/** What became of the connection. */
export interface Change {
  state: "connected" | "going_away" | "disconnected" | "ended";
  delayMs?: number;
  cause?: Error;
}

export interface Options {
  clientId: string;
  deviceId?: string;
  token?: string;
  /** Program name and version. */
  agent?: string;
  /** Mend cuts, for as long as it takes; true by default. */
  reconnect?: boolean;
  /** Give up after so long without a connection that was of use, in time that the machine was awake. */
  giveUpMs?: number;
  /** Let answers run on while the connection is gone. */
  detach?: boolean;
  /** Follow the durable events of this client id: `client.events`. */
  events?: boolean;
  onChange?: (change: Change) => void;
  /** What the server tells of its state, at first and at each change: `agent_status`, `devices`. */
  onState?: (kind: string, data: { [key: string]: Json }) => void;
  /** A WebSocket class, where the platform has none. */
  WebSocket?: typeof WebSocket;
}

/** A streamed answer: iterate over it for pieces of text. */
export declare class Answer implements AsyncIterable<string> {
  constructor(commandId: string, accepted: Accepted, cancel: (answer: Answer, wasOver: boolean) => Promise<void>);
  readonly commandId: string;
  readonly stream: string;
  readonly epoch: string;
  /** Data of `done`, once it came. */
  readonly done: Done | null;
  readonly wasCancelled: boolean;
  [Symbol.asyncIterator](): AsyncGenerator<string, void, void>;
  text(): Promise<string>;
  cancel(): Promise<void>;
}

/** One durable event of this client id, or a `snapshot`: load anew, then take events after `seq`. */
export interface ClientEvent {
  type: string;
  seq: number;
  time?: string;
  data: { [key: string]: unknown };
}

export declare class ClientEvents implements AsyncIterable<ClientEvent> {
  readonly handedOutSeq: number;
  readonly acknowledgedSeq: number;
  [Symbol.asyncIterator](): AsyncGenerator<ClientEvent, void, void>;
}

/** The data that answers each command. */
export type AnswerData = Omit<ResultData, "hello" | "ping" | "generate" | "assist"> & {
  hello: Welcome;
  ping: MessageData["pong"];
  generate: Accepted;
  assist: Accepted;
};

export declare class Client {
  readonly welcome: Welcome | null;
  /** Data of `going_away`, until another connection stands. */
  readonly goingAway: GoingAway | null;
  /** With the option `events`. */
  readonly events: ClientEvents | null;
  command<T extends keyof AnswerData & keyof CommandData>(type: T, data: CommandData[T]): Promise<AnswerData[T]>;
  ping<T extends MessageData["pong"]>(payload?: T): Promise<T>;
  cancel(commandId: string): Promise<boolean>;
  generate(data: Generate): Promise<Answer>;
  assist(data: Assist): Promise<Answer>;
  /** Goes on with an answer that was begun on another connection of this client id, from its first event. */
  follow(answer: { stream: string; epoch: string; commandId: string }): Promise<Answer>;
  /** Watches topics as an operator, in place of those before. */
  watch(topics: readonly Topic[], options?: { trace?: TraceWish }): Promise<OperatorView>;
  close(): Promise<void>;
}

/** Connects and says hello. */
export declare function connect(url: string, options: Options): Promise<Client>;
