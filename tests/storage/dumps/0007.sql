BEGIN TRANSACTION;
CREATE TABLE access_tokens (
	token_id VARCHAR(12) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	client_ids TEXT, 
	roles TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	expires_ms BIGINT, 
	revoked_ms BIGINT, 
	is_local BOOLEAN NOT NULL, 
	PRIMARY KEY (token_id)
);
INSERT INTO "access_tokens" VALUES('31ba31bae818','phone','8a8431493e879a074cee230205d7afcfe431aba8f7257e00578fc9d3ea722648','["zoe"]','["user"]',1796081324234,NULL,NULL,0);
CREATE TABLE acknowledgements (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	stream VARCHAR(256) NOT NULL, 
	epoch VARCHAR(64) NOT NULL, 
	seq BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, device_id, stream)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0007');
CREATE TABLE assists (
	stream VARCHAR(256) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	domain VARCHAR(256) NOT NULL, 
	command_id VARCHAR(64) NOT NULL, 
	conversation VARCHAR(64), 
	turn BIGINT, 
	intent VARCHAR(16), 
	restart TEXT, 
	started_ms BIGINT NOT NULL, 
	PRIMARY KEY (stream)
);
CREATE TABLE board_limits (
	client_id VARCHAR(64) NOT NULL, 
	project VARCHAR(128) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	most INTEGER NOT NULL, 
	PRIMARY KEY (client_id, project, status)
);
CREATE TABLE client_logs (
	client_id VARCHAR(64) NOT NULL, 
	epoch VARCHAR(32) NOT NULL, 
	head BIGINT NOT NULL, 
	PRIMARY KEY (client_id)
);
INSERT INTO "client_logs" VALUES('','aaace3e3917b7e2307e41997336e1986',0);
INSERT INTO "client_logs" VALUES('zoe','e6832a1a400af2ea',11);
CREATE TABLE conversations (
	client_id VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	created_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	deleted_ms BIGINT, 
	last_turn BIGINT NOT NULL, 
	first_turn BIGINT NOT NULL, 
	window_start BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	running_command VARCHAR(64), 
	running_stream VARCHAR(256), 
	PRIMARY KEY (client_id, name)
);
INSERT INTO "conversations" VALUES('zoe','tour',1796081310158,1796081310446,NULL,4,1,1,34,NULL,NULL);
CREATE TABLE events (
	client_id VARCHAR(64) NOT NULL, 
	seq BIGINT NOT NULL, 
	type VARCHAR(64) NOT NULL, 
	channel VARCHAR(32) NOT NULL, 
	priority VARCHAR(16) NOT NULL, 
	time_ms BIGINT NOT NULL, 
	data TEXT NOT NULL, 
	bytes INTEGER NOT NULL, 
	PRIMARY KEY (client_id, seq)
);
INSERT INTO "events" VALUES('zoe',1,'task_created','tasks','medium',1796081309710,'{"event_id":"18900739-0424-4aff-9f7b-d27d67b75f57","channel":"tasks","priority":"medium","task":{"id":"a56bb101-7ea6-4e3c-b88e-1904ed856580","client_id":"zoe","project":"default","title":"Water the plants","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000000","tags":["home","n0"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-11-30T23:28:29.691Z","updated":"2026-11-30T23:28:29.691Z"}}',517);
INSERT INTO "events" VALUES('zoe',2,'notification','notifications','low',1796081309710,'{"event_id":"de9d3608-0c6a-4908-bcfd-94de4161123f","channel":"notifications","priority":"low","notification":{"notification_id":"4b052c52-12b8-48e0-9df3-c9e66e682526","kind":"task_created","priority":"low","title":"New task: Water the plants","body":"Status: todo","data":{"task_id":"a56bb101-7ea6-4e3c-b88e-1904ed856580","status":"todo"},"created_at":"2026-11-30T23:28:29.760Z","read_at":"2026-11-30T23:28:29.760Z"}}',417);
INSERT INTO "events" VALUES('zoe',3,'task_created','tasks','medium',1796081309922,'{"event_id":"eebe6694-698c-41ff-8db6-6708c7aec330","channel":"tasks","priority":"medium","task":{"id":"e861aff8-924f-4fb0-a0ec-0e60a1699b35","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-11-30T23:28:29.909Z","updated":"2026-11-30T23:28:29.909Z"}}',522);
INSERT INTO "events" VALUES('zoe',4,'notification','notifications','low',1796081309922,'{"event_id":"6549cc45-5648-400c-a6b1-cca2925a02be","channel":"notifications","priority":"low","notification":{"notification_id":"a242725b-3660-454b-a1af-f0a6037a97a6","kind":"task_created","priority":"low","title":"New task: Grüße an Ömer 🌱","body":"Status: todo","data":{"task_id":"e861aff8-924f-4fb0-a0ec-0e60a1699b35","status":"todo"},"created_at":"2026-11-30T23:28:29.923Z","read_at":"2026-11-30T23:28:29.923Z"}}',422);
INSERT INTO "events" VALUES('zoe',5,'task_moved','tasks','medium',1796081309985,'{"event_id":"c7423304-0a2b-49e0-b82d-745696db1738","channel":"tasks","priority":"medium","task":{"id":"e861aff8-924f-4fb0-a0ec-0e60a1699b35","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"in_progress","priority":"medium","position":"V0000000","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":2,"created":"2026-11-30T23:28:29.909Z","updated":"2026-11-30T23:28:29.980Z"}}',529);
INSERT INTO "events" VALUES('zoe',6,'notification','notifications','low',1796081309985,'{"event_id":"0c218291-2ea2-460e-9902-66a0a4d1e8e0","channel":"notifications","priority":"low","notification":{"notification_id":"4033012d-9fdf-40d0-86fb-3f5222bf613f","kind":"task_moved","priority":"low","title":"Task moved: Grüße an Ömer 🌱","body":"Now in in_progress","data":{"task_id":"e861aff8-924f-4fb0-a0ec-0e60a1699b35","status":"in_progress"},"created_at":"2026-11-30T23:28:30.042Z","read_at":"2026-11-30T23:28:30.042Z"}}',435);
INSERT INTO "events" VALUES('zoe',7,'task_created','tasks','medium',1796081310105,'{"event_id":"6e2fd332-3ae7-492b-800f-ad55757926a9","channel":"tasks","priority":"medium","task":{"id":"eb75dde2-9a4f-4c95-bebf-5c28d4a5f6f3","client_id":"zoe","project":"default","title":"Review `a<b>`","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n2"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-11-30T23:28:30.098Z","updated":"2026-11-30T23:28:30.098Z"}}',514);
INSERT INTO "events" VALUES('zoe',8,'notification','notifications','low',1796081310105,'{"event_id":"ec4e82f3-af7b-474b-acc8-aacfa3078f28","channel":"notifications","priority":"low","notification":{"notification_id":"7836cd06-dac4-464b-9007-0ff2d3a83c69","kind":"task_created","priority":"low","title":"New task: Review `a<b>`","body":"Status: todo","data":{"task_id":"eb75dde2-9a4f-4c95-bebf-5c28d4a5f6f3","status":"todo"},"created_at":"2026-11-30T23:28:30.107Z","read_at":"2026-11-30T23:28:30.107Z"}}',414);
INSERT INTO "events" VALUES('zoe',9,'ai_response','ai','medium',1796081310234,'{"event_id":"f45e7cf0-6e6d-4f20-b722-4e08e9141657","channel":"ai","priority":"medium","command":"generate","id":"ai-cafd8f91bb9dd674edc20262","analysis":"1 2 3","conversation":"tour"}',183);
INSERT INTO "events" VALUES('zoe',10,'ai_response','ai','medium',1796081310440,'{"event_id":"b8ab5a14-9159-41ea-bdb2-0d53991a0e73","channel":"ai","priority":"medium","command":"generate","id":"ai-6df4aa7a5c76fadbe9396626","analysis":"1 2 3 4 5","conversation":"tour"}',187);
INSERT INTO "events" VALUES('zoe',11,'notification','notifications','medium',1796081310588,'{"event_id":"67404647-849e-4ef4-9f66-03a9a988aa48","channel":"notifications","priority":"medium","notification":{"notification_id":"5bada939-62c1-4572-bc1b-7348b95e28f8","kind":"message","priority":"medium","title":"Tea is ready","body":"Käsekuchen, too","data":{},"created_at":"2026-11-30T23:28:30.588Z"}}',307);
CREATE TABLE generations (
	stream VARCHAR(256) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64), 
	command_id VARCHAR(64), 
	digest VARCHAR(64), 
	domain VARCHAR(256) NOT NULL, 
	request TEXT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	started_ms BIGINT NOT NULL, 
	ended_ms BIGINT, 
	text TEXT, 
	last TEXT, 
	PRIMARY KEY (stream)
);
CREATE TABLE idempotency (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	command_id VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	outcome TEXT NOT NULL, 
	head BIGINT, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, device_id, command_id)
);
CREATE TABLE notification_acknowledgements (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	seq BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE notification_clients (
	client_id VARCHAR(64) NOT NULL, 
	last_number BIGINT NOT NULL, 
	preferences TEXT, 
	PRIMARY KEY (client_id)
);
INSERT INTO "notification_clients" VALUES('zoe',5,NULL);
CREATE TABLE notification_deliveries (
	notification_id VARCHAR(64) NOT NULL, 
	channel VARCHAR(16) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	number BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT, 
	attempts INTEGER NOT NULL, 
	due_ms BIGINT, 
	released_ms BIGINT, 
	sent_ms BIGINT, 
	delivered_ms BIGINT, 
	opened_ms BIGINT, 
	digest_id VARCHAR(64), 
	PRIMARY KEY (notification_id, channel, device_id)
);
INSERT INTO "notification_deliveries" VALUES('4b052c52-12b8-48e0-9df3-c9e66e682526','in_app','','zoe',1,'sent',NULL,0,NULL,1796081309760,1796081309760,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('a242725b-3660-454b-a1af-f0a6037a97a6','in_app','','zoe',2,'sent',NULL,0,NULL,1796081309923,1796081309923,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('4033012d-9fdf-40d0-86fb-3f5222bf613f','in_app','','zoe',3,'sent',NULL,0,NULL,1796081310042,1796081310042,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('7836cd06-dac4-464b-9007-0ff2d3a83c69','in_app','','zoe',4,'sent',NULL,0,NULL,1796081310107,1796081310107,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('5bada939-62c1-4572-bc1b-7348b95e28f8','in_app','','zoe',5,'sent',NULL,0,NULL,1796081310588,1796081310588,NULL,NULL,NULL);
CREATE TABLE notification_devices (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	channel VARCHAR(16) NOT NULL, 
	address TEXT NOT NULL, 
	secret TEXT NOT NULL, 
	environment VARCHAR(16), 
	topic VARCHAR(255), 
	app_version VARCHAR(64), 
	device_model VARCHAR(128), 
	timezone VARCHAR(64), 
	locale VARCHAR(32), 
	preferences TEXT, 
	created_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	due_ms BIGINT, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE notifications (
	notification_id VARCHAR(64) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	number BIGINT NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	priority VARCHAR(16) NOT NULL, 
	title TEXT NOT NULL, 
	body TEXT NOT NULL, 
	fields TEXT NOT NULL, 
	data TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	read_ms BIGINT, 
	is_digest BOOLEAN NOT NULL, 
	PRIMARY KEY (notification_id)
);
INSERT INTO "notifications" VALUES('4b052c52-12b8-48e0-9df3-c9e66e682526','zoe',1,'task_created','low','New task: Water the plants','Status: todo','{"title":"Water the plants","task_id":"a56bb101-7ea6-4e3c-b88e-1904ed856580","status":"todo"}','{"task_id":"a56bb101-7ea6-4e3c-b88e-1904ed856580","status":"todo"}',1796081309760,1796081309760,0);
INSERT INTO "notifications" VALUES('a242725b-3660-454b-a1af-f0a6037a97a6','zoe',2,'task_created','low','New task: Grüße an Ömer 🌱','Status: todo','{"title":"Grüße an Ömer 🌱","task_id":"e861aff8-924f-4fb0-a0ec-0e60a1699b35","status":"todo"}','{"task_id":"e861aff8-924f-4fb0-a0ec-0e60a1699b35","status":"todo"}',1796081309923,1796081309923,0);
INSERT INTO "notifications" VALUES('4033012d-9fdf-40d0-86fb-3f5222bf613f','zoe',3,'task_moved','low','Task moved: Grüße an Ömer 🌱','Now in in_progress','{"title":"Grüße an Ömer 🌱","task_id":"e861aff8-924f-4fb0-a0ec-0e60a1699b35","status":"in_progress"}','{"task_id":"e861aff8-924f-4fb0-a0ec-0e60a1699b35","status":"in_progress"}',1796081310042,1796081310042,0);
INSERT INTO "notifications" VALUES('7836cd06-dac4-464b-9007-0ff2d3a83c69','zoe',4,'task_created','low','New task: Review `a<b>`','Status: todo','{"title":"Review `a<b>`","task_id":"eb75dde2-9a4f-4c95-bebf-5c28d4a5f6f3","status":"todo"}','{"task_id":"eb75dde2-9a4f-4c95-bebf-5c28d4a5f6f3","status":"todo"}',1796081310107,1796081310107,0);
INSERT INTO "notifications" VALUES('5bada939-62c1-4572-bc1b-7348b95e28f8','zoe',5,'message','medium','Tea is ready','Käsekuchen, too','{"title":"Tea is ready","body":"Käsekuchen, too"}','{}',1796081310588,NULL,0);
CREATE TABLE subscriptions (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	channels TEXT, 
	min_priority VARCHAR(16) NOT NULL, 
	max_events_per_second FLOAT, 
	batch_ms INTEGER NOT NULL, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE task_dependencies (
	task_id VARCHAR(36) NOT NULL, 
	depends_on VARCHAR(36) NOT NULL, 
	place INTEGER NOT NULL, 
	PRIMARY KEY (task_id, depends_on), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE, 
	FOREIGN KEY(depends_on) REFERENCES tasks (id)
);
CREATE TABLE task_history (
	number INTEGER NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	task_id VARCHAR(36) NOT NULL, 
	project VARCHAR(128) NOT NULL, 
	version BIGINT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	time_ms BIGINT NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	from_status VARCHAR(16), 
	to_status VARCHAR(16), 
	stay_ms BIGINT, 
	cycle_ms BIGINT, 
	changes TEXT NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "task_history" VALUES(1,'zoe','a56bb101-7ea6-4e3c-b88e-1904ed856580','default',1,'created',1796081309691,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Water the plants"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000000"},"tags":{"after":["home","n0"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(2,'zoe','e861aff8-924f-4fb0-a0ec-0e60a1699b35','default',1,'created',1796081309909,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Grüße an Ömer 🌱"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n1"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(3,'zoe','e861aff8-924f-4fb0-a0ec-0e60a1699b35','default',2,'moved',1796081309980,':rest','todo','in_progress',71,NULL,'{"status":{"before":"todo","after":"in_progress"},"position":{"before":"V0000001","after":"V0000000"}}');
INSERT INTO "task_history" VALUES(4,'zoe','eb75dde2-9a4f-4c95-bebf-5c28d4a5f6f3','default',1,'created',1796081310098,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Review `a<b>`"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n2"]},"ai_analysis_status":{"after":"none"}}');
CREATE TABLE task_tags (
	task_id VARCHAR(36) NOT NULL, 
	tag VARCHAR(64) NOT NULL, 
	PRIMARY KEY (task_id, tag), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE
);
INSERT INTO "task_tags" VALUES('a56bb101-7ea6-4e3c-b88e-1904ed856580','home');
INSERT INTO "task_tags" VALUES('a56bb101-7ea6-4e3c-b88e-1904ed856580','n0');
INSERT INTO "task_tags" VALUES('e861aff8-924f-4fb0-a0ec-0e60a1699b35','home');
INSERT INTO "task_tags" VALUES('e861aff8-924f-4fb0-a0ec-0e60a1699b35','n1');
INSERT INTO "task_tags" VALUES('eb75dde2-9a4f-4c95-bebf-5c28d4a5f6f3','home');
INSERT INTO "task_tags" VALUES('eb75dde2-9a4f-4c95-bebf-5c28d4a5f6f3','n2');
CREATE TABLE tasks (
	id VARCHAR(36) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	project VARCHAR(128) NOT NULL, 
	title VARCHAR(255) NOT NULL, 
	description TEXT, 
	status VARCHAR(16) NOT NULL, 
	priority INTEGER NOT NULL, 
	position VARCHAR(64) NOT NULL, 
	tags TEXT NOT NULL, 
	attachments TEXT NOT NULL, 
	agent_decision TEXT, 
	assignee VARCHAR(128), 
	estimate_hours FLOAT, 
	actual_hours FLOAT, 
	due_ms BIGINT, 
	confidence FLOAT, 
	ai_analysis TEXT, 
	ai_analysis_status VARCHAR(16) NOT NULL, 
	ai_analysis_confidence FLOAT, 
	version BIGINT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	entered_ms BIGINT NOT NULL, 
	started_ms BIGINT, 
	due_told_ms BIGINT, 
	search_text TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "tasks" VALUES('a56bb101-7ea6-4e3c-b88e-1904ed856580','zoe','default','Water the plants','Line one.
Line two.','todo',1,'V0000000','["home","n0"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796081309691,1796081309691,1796081309691,NULL,NULL,'water the plants
line one.
line two.
home
n0');
INSERT INTO "tasks" VALUES('e861aff8-924f-4fb0-a0ec-0e60a1699b35','zoe','default','Grüße an Ömer 🌱','Line one.
Line two.','in_progress',1,'V0000000','["home","n1"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,2,1796081309909,1796081309980,1796081309980,1796081309980,NULL,'grüsse an ömer 🌱
line one.
line two.
home
n1');
INSERT INTO "tasks" VALUES('eb75dde2-9a4f-4c95-bebf-5c28d4a5f6f3','zoe','default','Review `a<b>`','Line one.
Line two.','todo',1,'V0000001','["home","n2"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796081310098,1796081310098,1796081310098,NULL,NULL,'review `a<b>`
line one.
line two.
home
n2');
CREATE TABLE turns (
	client_id VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	number BIGINT NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	content TEXT NOT NULL, 
	prompt TEXT, 
	intent VARCHAR(16), 
	is_partial BOOLEAN NOT NULL, 
	bytes INTEGER NOT NULL, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, name, number)
);
INSERT INTO "turns" VALUES('zoe','tour',1,'user','count to 3',NULL,NULL,0,10,1796081310162);
INSERT INTO "turns" VALUES('zoe','tour',2,'assistant','1 2 3',NULL,NULL,0,5,1796081310236);
INSERT INTO "turns" VALUES('zoe','tour',3,'user','count to 5',NULL,NULL,0,10,1796081310402);
INSERT INTO "turns" VALUES('zoe','tour',4,'assistant','1 2 3 4 5',NULL,NULL,0,9,1796081310446);
CREATE INDEX events_by_time ON events (time_ms);
CREATE INDEX idempotency_by_time ON idempotency (time_ms);
CREATE INDEX generations_by_end ON generations (ended_ms);
CREATE INDEX acknowledgements_by_time ON acknowledgements (time_ms);
CREATE INDEX tasks_by_place ON tasks (client_id, project, status, position, id);
CREATE INDEX tasks_by_creation ON tasks (client_id, created_ms, id);
CREATE INDEX tasks_by_update ON tasks (client_id, updated_ms, id);
CREATE INDEX tasks_by_due ON tasks (due_ms);
CREATE INDEX tasks_by_analysis ON tasks (ai_analysis_status, created_ms);
CREATE INDEX dependents ON task_dependencies (depends_on);
CREATE INDEX history_of_task ON task_history (client_id, task_id, number);
CREATE INDEX history_of_columns ON task_history (client_id, to_status, time_ms);
CREATE UNIQUE INDEX notifications_by_client ON notifications (client_id, number);
CREATE INDEX notifications_by_time ON notifications (created_ms);
CREATE INDEX notification_devices_due ON notification_devices (channel, due_ms);
CREATE INDEX notification_deliveries_lane ON notification_deliveries (client_id, device_id, channel, state, number);
CREATE INDEX notification_deliveries_due ON notification_deliveries (state, due_ms);
CREATE INDEX notification_deliveries_rate ON notification_deliveries (client_id, device_id, channel, released_ms);
CREATE INDEX assists_by_client ON assists (client_id);
COMMIT;
