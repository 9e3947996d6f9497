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
INSERT INTO "access_tokens" VALUES('c39a5fca842e','phone','9585651305f4153d9f13da51667991cc6b6ab44e3b87eca8cdeb4c74b3fffcae','["zoe"]','["user"]',1796093402920,NULL,NULL,0);
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
INSERT INTO "alembic_version" VALUES('0009');
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
INSERT INTO "client_logs" VALUES('','76632bb3319897c36631bf2ba2161757',0);
INSERT INTO "client_logs" VALUES('zoe','fdc4c1fdbb390429',11);
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
INSERT INTO "conversations" VALUES('zoe','tour',1796093390836,1796093391075,NULL,4,1,1,34,NULL,NULL);
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
INSERT INTO "events" VALUES('zoe',1,'task_created','tasks','medium',1796093390247,'{"event_id":"62db17ae-3724-4ca8-b5d3-103142ae9637","channel":"tasks","priority":"medium","task":{"id":"0c17aefe-7538-46c6-9cdc-8b5c2686bbf9","client_id":"zoe","project":"default","title":"Water the plants","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000000","tags":["home","n0"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-12-01T02:49:50.245Z","updated":"2026-12-01T02:49:50.245Z"}}',517);
INSERT INTO "events" VALUES('zoe',2,'notification','notifications','low',1796093390247,'{"event_id":"91c57666-2148-4a22-bbec-0bccd3e54e77","channel":"notifications","priority":"low","notification":{"notification_id":"dd34a5c9-6c04-44bf-a672-5faa976bb11b","kind":"task_created","priority":"low","title":"New task: Water the plants","body":"Status: todo","data":{"task_id":"0c17aefe-7538-46c6-9cdc-8b5c2686bbf9","status":"todo"},"created_at":"2026-12-01T02:49:50.300Z","read_at":"2026-12-01T02:49:50.300Z"}}',417);
INSERT INTO "events" VALUES('zoe',3,'task_created','tasks','medium',1796093390493,'{"event_id":"fbd24018-c6a3-4b61-9433-f1966e91eaef","channel":"tasks","priority":"medium","task":{"id":"c4e06312-4b02-4902-b707-1fbbdeed0362","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-12-01T02:49:50.491Z","updated":"2026-12-01T02:49:50.491Z"}}',522);
INSERT INTO "events" VALUES('zoe',4,'notification','notifications','low',1796093390493,'{"event_id":"3d1a16ee-6ce3-4d6c-a5b7-0a5e8f3ae002","channel":"notifications","priority":"low","notification":{"notification_id":"b71d463f-cc9c-4dab-b351-d903e0e56e25","kind":"task_created","priority":"low","title":"New task: Grüße an Ömer 🌱","body":"Status: todo","data":{"task_id":"c4e06312-4b02-4902-b707-1fbbdeed0362","status":"todo"},"created_at":"2026-12-01T02:49:50.495Z","read_at":"2026-12-01T02:49:50.495Z"}}',422);
INSERT INTO "events" VALUES('zoe',5,'task_moved','tasks','medium',1796093390602,'{"event_id":"60ef6815-65eb-4097-a821-56cd3bc5f5c2","channel":"tasks","priority":"medium","task":{"id":"c4e06312-4b02-4902-b707-1fbbdeed0362","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"in_progress","priority":"medium","position":"V0000000","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":2,"created":"2026-12-01T02:49:50.491Z","updated":"2026-12-01T02:49:50.586Z"}}',529);
INSERT INTO "events" VALUES('zoe',6,'notification','notifications','low',1796093390602,'{"event_id":"e9c8722e-00e6-47e7-bf33-cfb798bf8008","channel":"notifications","priority":"low","notification":{"notification_id":"4f7d8603-912c-4f04-9394-8cd0b3ba89e1","kind":"task_moved","priority":"low","title":"Task moved: Grüße an Ömer 🌱","body":"Now in in_progress","data":{"task_id":"c4e06312-4b02-4902-b707-1fbbdeed0362","status":"in_progress"},"created_at":"2026-12-01T02:49:50.637Z","read_at":"2026-12-01T02:49:50.637Z"}}',435);
INSERT INTO "events" VALUES('zoe',7,'task_created','tasks','medium',1796093390710,'{"event_id":"799585e0-5b0e-4944-91a9-901837467ad3","channel":"tasks","priority":"medium","task":{"id":"eaaeefdb-86ce-4349-b149-b0067f1f83cb","client_id":"zoe","project":"default","title":"Review `a<b>`","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n2"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-12-01T02:49:50.709Z","updated":"2026-12-01T02:49:50.709Z"}}',514);
INSERT INTO "events" VALUES('zoe',8,'notification','notifications','low',1796093390710,'{"event_id":"32bcb6a6-3062-4be8-a6e9-7da9948ffb19","channel":"notifications","priority":"low","notification":{"notification_id":"d19088dd-6857-4561-9fc7-7433331d5f23","kind":"task_created","priority":"low","title":"New task: Review `a<b>`","body":"Status: todo","data":{"task_id":"eaaeefdb-86ce-4349-b149-b0067f1f83cb","status":"todo"},"created_at":"2026-12-01T02:49:50.711Z","read_at":"2026-12-01T02:49:50.711Z"}}',414);
INSERT INTO "events" VALUES('zoe',9,'ai_response','ai','medium',1796093390913,'{"event_id":"089c27e9-d7c2-4780-bbe7-2a20f28e6352","channel":"ai","priority":"medium","command":"generate","id":"ai-614cdbdd651435cd64a82e29","analysis":"1 2 3","conversation":"tour"}',183);
INSERT INTO "events" VALUES('zoe',10,'ai_response','ai','medium',1796093391074,'{"event_id":"6a1c764b-f1a7-4366-b05e-55b170e26d39","channel":"ai","priority":"medium","command":"generate","id":"ai-b73d210602da5949e6d1fa88","analysis":"1 2 3 4 5","conversation":"tour"}',187);
INSERT INTO "events" VALUES('zoe',11,'notification','notifications','medium',1796093391179,'{"event_id":"6bf8bd74-70ee-4530-b7fd-f066a5afaf81","channel":"notifications","priority":"medium","notification":{"notification_id":"52014624-5320-43fe-b66e-f82000404bfa","kind":"message","priority":"medium","title":"Tea is ready","body":"Käsekuchen, too","data":{},"created_at":"2026-12-01T02:49:51.179Z"}}',307);
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
INSERT INTO "notification_deliveries" VALUES('dd34a5c9-6c04-44bf-a672-5faa976bb11b','in_app','','zoe',1,'sent',NULL,0,NULL,1796093390300,1796093390300,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('b71d463f-cc9c-4dab-b351-d903e0e56e25','in_app','','zoe',2,'sent',NULL,0,NULL,1796093390495,1796093390495,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('4f7d8603-912c-4f04-9394-8cd0b3ba89e1','in_app','','zoe',3,'sent',NULL,0,NULL,1796093390637,1796093390637,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('d19088dd-6857-4561-9fc7-7433331d5f23','in_app','','zoe',4,'sent',NULL,0,NULL,1796093390711,1796093390711,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('52014624-5320-43fe-b66e-f82000404bfa','in_app','','zoe',5,'sent',NULL,0,NULL,1796093391179,1796093391179,NULL,NULL,NULL);
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
INSERT INTO "notifications" VALUES('dd34a5c9-6c04-44bf-a672-5faa976bb11b','zoe',1,'task_created','low','New task: Water the plants','Status: todo','{"title":"Water the plants","task_id":"0c17aefe-7538-46c6-9cdc-8b5c2686bbf9","status":"todo"}','{"task_id":"0c17aefe-7538-46c6-9cdc-8b5c2686bbf9","status":"todo"}',1796093390300,1796093390300,0);
INSERT INTO "notifications" VALUES('b71d463f-cc9c-4dab-b351-d903e0e56e25','zoe',2,'task_created','low','New task: Grüße an Ömer 🌱','Status: todo','{"title":"Grüße an Ömer 🌱","task_id":"c4e06312-4b02-4902-b707-1fbbdeed0362","status":"todo"}','{"task_id":"c4e06312-4b02-4902-b707-1fbbdeed0362","status":"todo"}',1796093390495,1796093390495,0);
INSERT INTO "notifications" VALUES('4f7d8603-912c-4f04-9394-8cd0b3ba89e1','zoe',3,'task_moved','low','Task moved: Grüße an Ömer 🌱','Now in in_progress','{"title":"Grüße an Ömer 🌱","task_id":"c4e06312-4b02-4902-b707-1fbbdeed0362","status":"in_progress"}','{"task_id":"c4e06312-4b02-4902-b707-1fbbdeed0362","status":"in_progress"}',1796093390637,1796093390637,0);
INSERT INTO "notifications" VALUES('d19088dd-6857-4561-9fc7-7433331d5f23','zoe',4,'task_created','low','New task: Review `a<b>`','Status: todo','{"title":"Review `a<b>`","task_id":"eaaeefdb-86ce-4349-b149-b0067f1f83cb","status":"todo"}','{"task_id":"eaaeefdb-86ce-4349-b149-b0067f1f83cb","status":"todo"}',1796093390711,1796093390711,0);
INSERT INTO "notifications" VALUES('52014624-5320-43fe-b66e-f82000404bfa','zoe',5,'message','medium','Tea is ready','Käsekuchen, too','{"title":"Tea is ready","body":"Käsekuchen, too"}','{}',1796093391179,NULL,0);
CREATE TABLE responses (
	id VARCHAR(64) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	domain VARCHAR(256) NOT NULL, 
	previous_id VARCHAR(64), 
	created_ms BIGINT NOT NULL, 
	ended_ms BIGINT, 
	response TEXT NOT NULL, 
	restart TEXT, 
	ending TEXT, 
	text TEXT, 
	logprobs TEXT, 
	bytes BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "responses" VALUES('resp_631660db71a2fe30540fc60f7914c04fbfb01ac49e6872b2','zoe','',NULL,1796093393618,1796093393746,'{"id": "resp_631660db71a2fe30540fc60f7914c04fbfb01ac49e6872b2", "created_ms": 1796093393618, "model": "mock", "head": {"echo": {"background": false, "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "model": "mock", "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "service_tier": "default", "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": null, "metadata": {}}, "tool_call_format": "TAGGED", "callable_schemas": {}, "reasoning_marks": "THINK", "begins_open": false, "is_forced": false, "has_logprobs": false}, "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "count to 4"}], "id": "msg_631660db71a2fe30540fc60f7914c04fbfb01ac49e6872b2_i0", "status": "completed"}], "previous_id": null, "notifies": false, "title": "count to 4"}',NULL,'{"status": "completed", "ended_ms": 1796093393746, "reason": null, "code": null, "message": null, "prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 7}','"1 2 3 4"',NULL,1039);
CREATE TABLE subscriptions (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	channels TEXT, 
	min_priority VARCHAR(16) NOT NULL, 
	max_events_per_second FLOAT, 
	batch_ms INTEGER NOT NULL, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE task_claims (
	task_id VARCHAR(36) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	lease VARCHAR(36) NOT NULL, 
	holder VARCHAR(128) NOT NULL, 
	until_ms BIGINT NOT NULL, 
	from_status VARCHAR(16) NOT NULL, 
	from_assignee VARCHAR(128), 
	PRIMARY KEY (task_id), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE
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
INSERT INTO "task_history" VALUES(1,'zoe','0c17aefe-7538-46c6-9cdc-8b5c2686bbf9','default',1,'created',1796093390245,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Water the plants"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000000"},"tags":{"after":["home","n0"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(2,'zoe','c4e06312-4b02-4902-b707-1fbbdeed0362','default',1,'created',1796093390491,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Grüße an Ömer 🌱"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n1"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(3,'zoe','c4e06312-4b02-4902-b707-1fbbdeed0362','default',2,'moved',1796093390586,':rest','todo','in_progress',95,NULL,'{"status":{"before":"todo","after":"in_progress"},"position":{"before":"V0000001","after":"V0000000"}}');
INSERT INTO "task_history" VALUES(4,'zoe','eaaeefdb-86ce-4349-b149-b0067f1f83cb','default',1,'created',1796093390709,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Review `a<b>`"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n2"]},"ai_analysis_status":{"after":"none"}}');
CREATE TABLE task_tags (
	task_id VARCHAR(36) NOT NULL, 
	tag VARCHAR(64) NOT NULL, 
	PRIMARY KEY (task_id, tag), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE
);
INSERT INTO "task_tags" VALUES('0c17aefe-7538-46c6-9cdc-8b5c2686bbf9','home');
INSERT INTO "task_tags" VALUES('0c17aefe-7538-46c6-9cdc-8b5c2686bbf9','n0');
INSERT INTO "task_tags" VALUES('c4e06312-4b02-4902-b707-1fbbdeed0362','home');
INSERT INTO "task_tags" VALUES('c4e06312-4b02-4902-b707-1fbbdeed0362','n1');
INSERT INTO "task_tags" VALUES('eaaeefdb-86ce-4349-b149-b0067f1f83cb','home');
INSERT INTO "task_tags" VALUES('eaaeefdb-86ce-4349-b149-b0067f1f83cb','n2');
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
INSERT INTO "tasks" VALUES('0c17aefe-7538-46c6-9cdc-8b5c2686bbf9','zoe','default','Water the plants','Line one.
Line two.','todo',1,'V0000000','["home","n0"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796093390245,1796093390245,1796093390245,NULL,NULL,'water the plants
line one.
line two.
home
n0');
INSERT INTO "tasks" VALUES('c4e06312-4b02-4902-b707-1fbbdeed0362','zoe','default','Grüße an Ömer 🌱','Line one.
Line two.','in_progress',1,'V0000000','["home","n1"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,2,1796093390491,1796093390586,1796093390586,1796093390586,NULL,'grüsse an ömer 🌱
line one.
line two.
home
n1');
INSERT INTO "tasks" VALUES('eaaeefdb-86ce-4349-b149-b0067f1f83cb','zoe','default','Review `a<b>`','Line one.
Line two.','todo',1,'V0000001','["home","n2"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796093390709,1796093390709,1796093390709,NULL,NULL,'review `a<b>`
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
INSERT INTO "turns" VALUES('zoe','tour',1,'user','count to 3',NULL,NULL,0,10,1796093390867);
INSERT INTO "turns" VALUES('zoe','tour',2,'assistant','1 2 3',NULL,NULL,0,5,1796093390933);
INSERT INTO "turns" VALUES('zoe','tour',3,'user','count to 5',NULL,NULL,0,10,1796093391046);
INSERT INTO "turns" VALUES('zoe','tour',4,'assistant','1 2 3 4 5',NULL,NULL,0,9,1796093391075);
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
CREATE INDEX responses_by_client ON responses (client_id, created_ms);
CREATE INDEX responses_by_end ON responses (ended_ms);
CREATE INDEX claims_by_end ON task_claims (until_ms);
COMMIT;
